"""SNGAN's residual nets (Miyato et al. 2018): at 32 pixels G has 4,276,739 and D 1,053,825 parameters.

Conditional form (cGAN-PD, Miyato & Koyama 2018): class-conditional batch norm in G's blocks and projection
in D, 4,304,387 and 1,055,105 parameters. Glorot-uniform weights, gain sqrt 2 on the blocks' 3x3 convolutions.
A 1x1 convolution commutes with nearest upsampling and with mean pooling, so skips convolve the smaller image.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.layers import BatchNorm, Conv, downsample, upsample

G_WIDTHS = {16: (256,) * 3, 32: (256,) * 4, 64: (1024, 512, 256, 128, 64)}
D_WIDTHS = {16: (128,) * 3, 32: (128,) * 4, 64: (64, 128, 256, 512, 1024)}
D_DOWN = {16: 1, 32: 2, 64: 5}  # D's first blocks that halve the size
GLOROT = nn.initializers.glorot_uniform()
GLOROT_RELU = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


class Generator(nn.Module):
    """Dense to 4x4, residual blocks that double the size, batch norm, ReLU, 3x3 convolution, tanh."""

    image_size: int = 32
    image_channels: int = 3
    num_classes: int = 0
    channels: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, z, labels, train, keys=None) -> jax.Array:
        def norm_relu(x, name, num_classes=self.num_classes):
            return nn.relu(BatchNorm(num_classes, self.axis_name, self.dtype, name=name)(x, labels, train))

        def conv(x, width, size, init, name):
            return Conv(width, (size, size), kernel_init=init, dtype=self.dtype, name=name)(x)

        base, *widths = self.channels or G_WIDTHS[self.image_size]
        x = nn.Dense(4 * 4 * base, kernel_init=GLOROT, dtype=self.dtype, name="dense")(z).reshape(-1, 4, 4, base)
        for i, width in enumerate(widths):
            h = upsample(norm_relu(x, f"norm_{i}a"))
            h = norm_relu(conv(h, width, 3, GLOROT_RELU, f"conv_{i}a"), f"norm_{i}b")
            h = conv(h, width, 3, GLOROT_RELU, f"conv_{i}b")
            x = h + upsample(conv(x, width, 1, GLOROT, f"skip_{i}"))
        x = conv(norm_relu(x, "norm", num_classes=0), self.image_channels, 3, GLOROT, "pixels")
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Spectrally normalised residual blocks, ReLU, sum over space, dense to one logit."""

    image_size: int = 32
    image_channels: int = 3
    num_classes: int = 0
    channels: tuple[int, ...] = ()
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    mixes_examples = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None) -> jax.Array:
        def normalised(layer, x):  # one power iteration a forward pass in training
            return nn.SpectralNorm(layer, name=f"sn_{layer.name}")(x, update_stats=train)

        def conv(x, width, size, init, name):
            layer = Conv(width, (size, size), kernel_init=init, dtype=self.dtype, name=name)
            return normalised(layer, x)

        x = images
        for i, width in enumerate(self.channels or D_WIDTHS[self.image_size]):
            down = i < D_DOWN[self.image_size]
            # The first block sees pixels: no ReLU before it. Hidden widths are those of the input, except there.
            h = conv(nn.relu(x) if i else x, x.shape[-1] if i else width, 3, GLOROT_RELU, f"conv_{i}a")
            h = conv(nn.relu(h), width, 3, GLOROT_RELU, f"conv_{i}b")
            skip = x
            if down:
                h, skip = downsample(h), downsample(x)
            if down or width != x.shape[-1]:
                skip = conv(skip, width, 1, GLOROT, f"skip_{i}")
            x = h + skip
        x = nn.relu(x).astype(jnp.float32).sum(axis=(1, 2))
        logits = normalised(nn.Dense(1, kernel_init=GLOROT, name="logit"), x)[:, 0]
        if self.num_classes:
            classes = nn.Embed(self.num_classes, x.shape[-1], embedding_init=GLOROT, name="classes")
            logits += jnp.sum(normalised(classes, labels) * x, axis=-1)
        return logits
