"""Holds the nets and the update step of some configs in PyTorch, made to be fast: `step.py --against=torch` times them.

Each net has the layers and widths of the Flax module that it stands for, the step has the losses, D steps and Adam of
its config; channels_last, spectral norm by PyTorch's own parametrization, autocast to bfloat16 where the config
computes in it; penalties share D's pass with the loss, as in R3GAN's own trainer; Adam is fused; both nets may go
through `torch.compile`. On a GPU, cuDNN chooses by trying, and float32 products are rounded as JAX's are (to TF32).
Augmentation, averages and logs are left out.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from jaxgan.models import biggan

LOSSES = {  # D's and G's, of logits of reals and of fakes
    "ns": (lambda real, fake: F.softplus(-real) + F.softplus(fake), lambda real, fake: F.softplus(-fake)),
    "hinge": (lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda real, fake: -fake),
    "rpgan": (lambda real, fake: F.softplus(fake - real), lambda real, fake: F.softplus(real - fake)),
}


class Norm(nn.Module):
    """Is batch norm; with classes, it has a gain and a bias for each."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=not num_classes)
        self.tables = nn.ModuleList(nn.Embedding(num_classes, width) for _ in range(2)) if num_classes else None

    def forward(self, x, labels):
        x = self.norm(x)
        if self.tables is None:
            return x
        gain, bias = (table(labels)[:, :, None, None] for table in self.tables)
        return x * (1 + gain) + bias


class End(nn.Module):
    """Sums over space, maps to a logit, and projects the class."""

    def __init__(self, width, num_classes, wrap):
        super().__init__()
        self.logit = wrap(nn.Linear(width, 1))
        self.classes = wrap(nn.Embedding(num_classes, width)) if num_classes else None

    def forward(self, x, labels):
        x = x.float().sum((2, 3))
        logits = self.logit(x)[:, 0]
        return logits if self.classes is None else logits + (self.classes(labels) * x).sum(1)


class DCGANGenerator(nn.Module):
    def __init__(self, module, z_dim):
        super().__init__()
        self.base, *widths = module.widths
        self.dense = nn.Linear(z_dim, 16 * self.base)
        pairs = list(zip([self.base, *widths], widths))
        self.convs = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairs)
        self.norms = nn.ModuleList(Norm(b, module.num_classes) for _, b in pairs)
        self.pixels = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z, labels):
        x = self.dense(z).view(-1, self.base, 4, 4).contiguous(memory_format=torch.channels_last)
        for conv, norm in zip(self.convs, self.norms):
            x = F.relu(norm(conv(x), labels))
        return torch.tanh(self.pixels(x).float())


class DCGANDiscriminator(nn.Module):
    together = False  # batch norm: reals and fakes each by themselves

    def __init__(self, module):
        super().__init__()
        *widths, last = module.widths
        layers, width = [], 3
        for out in widths:
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(out, out, 4, 2, 1), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
            width = out
        layers += [nn.Conv2d(width, last, 3, padding=1), nn.BatchNorm2d(last), nn.LeakyReLU(0.2)]
        self.layers, self.end = nn.Sequential(*layers), End(last, module.num_classes, lambda layer: layer)

    def forward(self, images, labels):
        return self.end(self.layers(images), labels)


class SNGANGenerator(nn.Module):
    def __init__(self, module, z_dim):
        super().__init__()
        self.base, *widths = module.widths
        self.dense = nn.Linear(z_dim, 16 * self.base)
        self.blocks = nn.ModuleList()
        for a, b in zip([self.base, *widths], widths):
            layers = dict(norm1=Norm(a, module.num_classes), norm2=Norm(b, module.num_classes))
            layers |= dict(conv1=nn.Conv2d(a, b, 3, padding=1), conv2=nn.Conv2d(b, b, 3, padding=1))
            layers |= dict(skip=nn.Conv2d(a, b, 1))
            self.blocks.append(nn.ModuleDict(layers))
        self.norm, self.pixels = Norm(widths[-1], 0), nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z, labels):
        x = self.dense(z).view(-1, self.base, 4, 4).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            h = F.interpolate(F.relu(block["norm1"](x, labels)), scale_factor=2)
            h = block["conv2"](F.relu(block["norm2"](block["conv1"](h), labels)))
            x = h + F.interpolate(block["skip"](x), scale_factor=2)
        return torch.tanh(self.pixels(F.relu(self.norm(x, labels))).float())


class SNGANDiscriminator(nn.Module):
    """Is SNGAN's, and BigGAN's, which has attention after the first block."""

    together = True

    def __init__(self, module):
        super().__init__()
        a, self.halvings = 3, module.HALVINGS[module.image_size]
        self.blocks = nn.ModuleList()
        self.attention = Attention(module.widths[0]) if isinstance(module, biggan.Discriminator) else nn.Identity()
        for i, b in enumerate(module.widths):
            down = i < self.halvings
            layers = dict(conv1=spectral_norm(nn.Conv2d(a, a if i else b, 3, padding=1)))
            layers |= dict(conv2=spectral_norm(nn.Conv2d(a if i else b, b, 3, padding=1)))
            if down or a != b:
                layers["skip"] = spectral_norm(nn.Conv2d(a, b, 1))
            self.blocks.append(nn.ModuleDict(layers))
            a = b
        self.end = End(a, module.num_classes, spectral_norm)

    def forward(self, images, labels):
        x = images
        for i, block in enumerate(self.blocks):
            active = F.relu(x) if i else x
            h, skip = block["conv2"](F.relu(block["conv1"](active))), active
            if i < self.halvings:
                h, skip = F.avg_pool2d(h, 2), F.avg_pool2d(skip, 2)
            x = h + (block["skip"](skip) if "skip" in block else skip)
            x = x if i else self.attention(x)
        return self.end(F.relu(x), labels)


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        sizes = dict(
            query=(width, width // 8), key=(width, width // 8), value=(width, width // 2), out=(width // 2, width)
        )
        self.convs = nn.ModuleDict({k: spectral_norm(nn.Conv2d(a, b, 1, bias=False)) for k, (a, b) in sizes.items()})
        self.sigma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        query = self.convs["query"](x).flatten(2).mT
        key, value = (F.max_pool2d(self.convs[name](x), 2).flatten(2) for name in ("key", "value"))
        weights = torch.softmax(query @ key, 2)
        seen = (weights @ value.mT).mT.unflatten(2, x.shape[2:])
        return x + self.sigma * self.convs["out"](seen.contiguous(memory_format=torch.channels_last))


class BigGANGenerator(nn.Module):
    def __init__(self, module, z_dim, shared_dim=128):
        super().__init__()
        self.base, *widths = module.widths
        chunk = z_dim // (len(widths) + 1)
        condition = chunk + (shared_dim if module.num_classes else 0)

        def norm(width):
            tables = (spectral_norm(nn.Linear(condition, width, bias=False)) for _ in range(2))
            return nn.ModuleList([nn.BatchNorm2d(width, affine=False), *tables])

        self.classes = nn.Embedding(module.num_classes, shared_dim) if module.num_classes else None
        self.dense = spectral_norm(nn.Linear(chunk, 16 * self.base))
        self.blocks = nn.ModuleList()
        for a, b in zip([self.base, *widths], widths):
            convs = dict(
                conv1=nn.Conv2d(a, b, 3, padding=1), conv2=nn.Conv2d(b, b, 3, padding=1), skip=nn.Conv2d(a, b, 1)
            )
            convs = {name: spectral_norm(conv) for name, conv in convs.items()}
            self.blocks.append(nn.ModuleDict(dict(norm1=norm(a), norm2=norm(b), **convs)))
        self.attention, self.norm = Attention(widths[-2]), nn.BatchNorm2d(widths[-1])
        self.pixels = spectral_norm(nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z, labels):
        first, *conditions = z.chunk(len(self.blocks) + 1, 1)
        if self.classes is not None:
            shared = self.classes(labels)
            conditions = [torch.cat([shared, chunk], 1) for chunk in conditions]

        def norm_relu(layers, x, condition):
            gain, bias = (table(condition)[:, :, None, None] for table in layers[1:])
            return F.relu(layers[0](x) * (1 + gain) + bias)

        x = self.dense(first).view(-1, self.base, 4, 4).contiguous(memory_format=torch.channels_last)
        for i, (block, condition) in enumerate(zip(self.blocks, conditions)):
            h = F.interpolate(norm_relu(block["norm1"], x, condition), scale_factor=2)
            h = block["conv2"](norm_relu(block["norm2"], block["conv1"](h), condition))
            x = h + F.interpolate(block["skip"](x), scale_factor=2)
            if i == len(self.blocks) - 2:
                x = self.attention(x)
        return torch.tanh(self.pixels(F.relu(self.norm(x))).float())


class R3GANBlock(nn.Module):
    def __init__(self, width, expansion=2, group_width=16):
        super().__init__()
        hidden = expansion * width
        self.expand = nn.Conv2d(width, hidden, 1)
        self.spatial = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden // group_width)
        self.reduce = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x):
        return x + self.reduce(F.leaky_relu(self.spatial(F.leaky_relu(self.expand(x), 0.2)), 0.2))


def blur(x, gain=1, padding=1, stride=1, convolve=F.conv2d):
    """Filters with [1, 3, 3, 1] in both directions, whose sum is `gain`."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    kernel = (torch.outer(taps, taps) * gain).expand(x.shape[1], 1, 4, 4)
    return convolve(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def upsample(x):
    """Doubles the size."""
    return blur(x, gain=4, stride=2, convolve=F.conv_transpose2d)


def downsample(x):
    """Halves the size."""
    return blur(x, stride=2)


class R3GANGenerator(nn.Module):
    def __init__(self, module, z_dim):
        super().__init__()
        widths = module.widths
        self.classes = nn.Embedding(module.num_classes, z_dim) if module.num_classes else None
        self.dense = nn.Linear(2 * z_dim if module.num_classes else z_dim, widths[0], bias=False)
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.stages = nn.ModuleList(nn.Sequential(R3GANBlock(w), R3GANBlock(w)) for w in widths)
        self.pixels = nn.Conv2d(widths[-1], 3, 1, bias=False)

    def forward(self, z, labels):
        if self.classes is not None:
            z = torch.cat([z, self.classes(labels)], 1)
        x = (self.dense(z)[:, :, None, None] * self.basis).contiguous(memory_format=torch.channels_last)
        for i, stage in enumerate(self.stages):
            x = stage(upsample(x) if i else x)
        return self.pixels(x).float()


class R3GANDiscriminator(nn.Module):
    together = True

    def __init__(self, module):
        super().__init__()
        widths = module.widths
        self.pixels = nn.Conv2d(3, widths[0], 1, bias=False)
        self.stages = nn.ModuleList(nn.Sequential(R3GANBlock(w), R3GANBlock(w)) for w in widths)
        self.basis = nn.Conv2d(widths[-1], widths[-1], 4, groups=widths[-1], bias=False)
        self.dense = nn.Linear(widths[-1], widths[-1] if module.num_classes else 1, bias=False)
        self.classes = nn.Embedding(module.num_classes, widths[-1]) if module.num_classes else None

    def forward(self, images, labels):
        x = self.pixels(images)
        for i, stage in enumerate(self.stages):
            x = stage(downsample(x) if i else x)
        x = self.dense(self.basis(x)[:, :, 0, 0]).float()
        return (x if self.classes is None else x * self.classes(labels)).sum(1)


def lrelu(x):
    return F.leaky_relu(x, 0.2) * 2**0.5


class Equal(nn.Module):
    """Holds a weight N(0, 1) and a bias; the weight is scaled to its fan-in (and `lr`) when it is used."""

    def __init__(self, *shape, lr=1.0, bias=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) / lr)
        self.bias = nn.Parameter(torch.full((shape[0],), bias))
        self.scale, self.lr = lr / self.weight[0].numel() ** 0.5, lr

    def forward(self, x):  # dense
        return F.linear(x, self.weight * self.scale, self.bias * self.lr)


class Mapping(nn.Module):
    def __init__(self, z_dim, num_classes, width, layers):
        super().__init__()
        self.classes = Equal(width, num_classes) if num_classes else None
        inputs = z_dim + (width if num_classes else 0)
        self.layers = nn.ModuleList(Equal(width, width if i else inputs, lr=0.01) for i in range(layers))
        self.num_classes = num_classes

    def forward(self, z, labels):
        inputs = [] if z is None else [z]
        if self.num_classes:
            inputs.append(self.classes(F.one_hot(labels, self.num_classes).float()))
        x = torch.cat([v * (v.square().mean(1, keepdim=True) + 1e-8).rsqrt() for v in inputs], 1)
        for layer in self.layers:
            x = lrelu(layer(x))
        return x


class StyleConv(nn.Module):
    """Convolves modulated by w: 3x3 demodulated, with noise and activation, or 1x1 to pixels."""

    def __init__(self, inputs, outputs, size, up=False):
        super().__init__()
        self.style, self.conv, self.up = Equal(inputs, 512, bias=1.0), Equal(outputs, inputs, size, size), up
        self.noise = nn.Parameter(torch.zeros(())) if size == 3 else None

    def forward(self, x, w):
        weight, style = self.conv.weight, self.style(w)
        if self.noise is None:
            style = style / style.shape[1] ** 0.5
            out = F.conv2d(x * style[:, :, None, None].to(x.dtype), weight)
            return (out + self.conv.bias[:, None, None]).float()
        demodulation = (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            x = blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4)
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x * demodulation[:, :, None, None].to(x.dtype)
        x = x + (self.noise * torch.randn(len(x), 1, *x.shape[2:], device=x.device)).to(x.dtype)
        return lrelu(x + self.conv.bias[:, None, None].to(x.dtype))


class StyleGAN2Generator(nn.Module):
    def __init__(self, module, z_dim):
        super().__init__()
        widths = module.widths
        self.mapping = Mapping(z_dim, module.num_classes, 512, 2)
        self.const = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.convs, self.pixels = nn.ModuleList([StyleConv(widths[0], widths[0], 3)]), nn.ModuleList()
        for i, width in enumerate(widths):
            if i:
                self.convs += [StyleConv(widths[i - 1], width, 3, up=True), StyleConv(width, width, 3)]
            self.pixels.append(StyleConv(width, 3, 1))

    def forward(self, z, labels):
        w = self.mapping(z, labels).float()
        x = self.const.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, w)
        image = self.pixels[0](x, w)
        for i, pixels in enumerate(self.pixels[1:]):
            x = self.convs[2 * i + 2](self.convs[2 * i + 1](x, w), w)
            image = upsample(image) + pixels(x, w)
        return image


class StyleGAN2Discriminator(nn.Module):
    """Has the architecture "orig"."""

    together = False  # groups of one batch for their standard deviation

    def __init__(self, module):
        super().__init__()
        *widths, last = module.widths
        self.convs = nn.ModuleList([Equal(widths[0], 3, 1, 1)])
        for a, b in zip(widths, [*widths[1:], last]):
            self.convs += [Equal(a, a, 3, 3), Equal(b, a, 3, 3)]
        self.conv, self.dense = Equal(last, last + 1, 3, 3), Equal(last, 16 * last)
        self.end = Equal(last if module.num_classes else 1, last)
        self.mapping = Mapping(0, module.num_classes, last, 8) if module.num_classes else None

    def forward(self, images, labels):
        def convolve(x, layer, **options):
            x = F.conv2d(x, layer.weight * layer.scale, **options)
            return lrelu(x + layer.bias[:, None, None].to(x.dtype))

        x = convolve(images, self.convs[0])
        for a, b in zip(self.convs[1::2], self.convs[2::2]):
            x = convolve(blur(convolve(x, a, padding=1), padding=2), b, stride=2)
        x = x.float()
        groups = x.reshape(32, -1, *x.shape[1:])
        stddev = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3)).repeat(32)
        x = torch.cat([x, stddev[:, None, None, None].expand(-1, 1, 4, 4)], 1)
        x = self.end(lrelu(self.dense(convolve(x, self.conv, padding=1).flatten(1))))
        if self.mapping is None:
            return x[:, 0]
        return (x * self.mapping(None, labels)).sum(1) / x.shape[1] ** 0.5


MODELS = {
    "dcgan": (DCGANGenerator, DCGANDiscriminator),
    "sngan": (SNGANGenerator, SNGANDiscriminator),
    "biggan": (BigGANGenerator, SNGANDiscriminator),
    "stylegan2": (StyleGAN2Generator, StyleGAN2Discriminator),
    "r3gan": (R3GANGenerator, R3GANDiscriminator),
}


def make_step(config, recipe, device="cpu", compiled=False):
    """Returns a function that runs one update of a config's recipe, on random reals; on a GPU it only starts it.

    Args:
      compiled: whether both nets go through `torch.compile`.
    """
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    make_g, make_d = MODELS[config.model.name]
    g = make_g(recipe.generator, recipe.z_dim).to(device, memory_format=torch.channels_last)
    d = make_d(recipe.discriminator).to(device, memory_format=torch.channels_last)
    optimizers = [
        torch.optim.Adam(net.parameters(), o.lr, (o.b1, o.b2), o.eps, fused=True)
        for net, o in ((g, config.optim_g), (d, config.optim_d))
    ]
    eager = d  # a compiled net has no gradient of a gradient
    if compiled:
        g, d = torch.compile(g), torch.compile(d)
    loss_d, loss_g = LOSSES[config.loss]
    batch, num_classes, (height, width, channels) = recipe.batch_size, recipe.generator.num_classes, recipe.image_shape
    real = torch.rand(batch, channels, height, width, device=device).mul(2).sub(1)
    real = real.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(num_classes, (batch,), device=device) if num_classes else None
    half = torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16")

    penalties, relativistic = (config.penalty.r1, config.penalty.r2), recipe.loss.relativistic
    count = 0

    def discriminate(d, real, fake):
        """Returns the logits of reals and of fakes."""
        if not eager.together:
            return d(real, labels), d(fake, labels)
        return d(torch.cat([real, fake]), None if labels is None else labels.repeat(2)).chunk(2)

    def add_penalties(images, logits, due):
        """Returns the zero-centered gradient penalties that are due, of one pass back for all of them."""
        sides = [i for i, weight in enumerate(due) if weight]
        total = sum(logits[i].sum() for i in sides)
        gradients = torch.autograd.grad(total, [images[i] for i in sides], create_graph=True)
        return sum(due[i] * x.square().sum((1, 2, 3)).mean() for i, x in zip(sides, gradients))

    def run():
        nonlocal count
        with half:
            for _ in range(recipe.d_steps):
                with torch.no_grad():
                    fake = g(torch.randn(batch, recipe.z_dim, device=device), labels)
                count += 1
                due = [term.weight * term.interval if count % term.interval == 0 else 0 for term in penalties]
                images = [x.detach().requires_grad_() if w else x for x, w in zip((real, fake), due)]
                # A penalty at one side alone costs no pass back through the other.
                net = eager if any(due) else d
                logits = discriminate(net, *images) if all(due) or not any(due) else [net(x, labels) for x in images]
                loss = loss_d(*logits).mean()
                if any(due):
                    loss = loss + add_penalties(images, logits, due)
                optimizers[1].zero_grad()
                loss.backward()
                optimizers[1].step()
            d.requires_grad_(False)
            fake = g(torch.randn(batch, recipe.z_dim, device=device), labels)
            loss = loss_g(*(discriminate(d, real, fake) if relativistic else (None, d(fake, labels)))).mean()
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            d.requires_grad_(True)

    return run
