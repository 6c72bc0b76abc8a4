"""BigGAN (Brock et al. 2019) as StudioGAN trains it: residual nets with spectral norm in both, and self-attention.

At 32 pixels with 10 classes and a z of 80, G has 9,416,196 and D 2,415,170 parameters. Every block of G
is conditioned on the class and on z: z is split into a chunk for the first layer and one for each block, and a chunk
joined to a class embedding that all blocks share gives the gains and biases of the block's two batch norms. Without
classes the chunk does so alone, and D has no projection (StudioGAN's unconditional BigGAN). Widths are those of
StudioGAN's networks for CIFAR-10 (32 pixels), Baby ImageNet (64) and, the paper's own, ImageNet (128).
"""

import functools
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models import sngan
from jaxgan.models.attention import SelfAttention, attention_block
from jaxgan.models.layers import (
    BaseGenerator,
    Conv,
    bounded,
    broadcast_like,
    orthogonal,
    spectral_norm,
    upsample,
    upsample_conv,
)


class Generator(BaseGenerator):
    """Maps z to 4x4, then has residual blocks that double the size, batch norm, ReLU, a 3x3 convolution and tanh.

    z [B, Z] is split as evenly as can be, Z at least the number of `channels`; the paper's chunks are of 20 (Z = 80 at
    32 pixels, 100 at 64, 120 at 128).
    """

    shared_dim: int = bounded(128, 1)  # width of the class embedding
    attention_size: int | None = None  # of the maps with self-attention, if images are square; None: half; 0: nowhere
    bn_eps: float = bounded(1e-4)
    bn_momentum: float = bounded(0.9, 0, 1)  # what the running statistics keep of themselves in a step

    WIDTHS: ClassVar = {
        16: (384,) * 3,
        32: (384,) * 4,
        64: (1280, 640, 320, 160, 80),
        128: (1536, 1536, 768, 384, 192, 96),
    }
    stages = True
    latent_layers = "dense|(gain|bias)_.*"  # each of them takes a chunk of z

    @nn.compact
    def __call__(self, z, labels, train, keys=None) -> jax.Array:
        def dense(x, width, name, bias=True):
            layer = nn.Dense(width, use_bias=bias, kernel_init=orthogonal, dtype=self.dtype, name=name)
            return spectral_norm(layer, train)(x)

        def conv(x, width, size, name, **options):
            layer = Conv(width, (size, size), kernel_init=orthogonal, dtype=self.dtype, name=name, **options)
            return spectral_norm(layer, train)(x)

        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=self.bn_eps,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )

        def norm_relu(x, condition, name):
            gain, bias = (
                dense(condition, x.shape[-1], f"{what}_{name}", bias=False)[:, None, None] for what in ("gain", "bias")
            )
            x = norm(use_scale=False, use_bias=False, name=f"norm_{name}")(x)
            return nn.relu(x * broadcast_like(1.0 + gain, x) + broadcast_like(bias, x))

        base, *widths = self.widths
        attending = attention_block(self.attention_size, self.square_size, [8 << i for i in range(len(widths))])
        if z.shape[-1] <= len(widths):
            raise ValueError(f"z_dim={z.shape[-1]}: biggan splits z into {len(widths) + 1} chunks, so give it as many")
        first, *conditions = jnp.array_split(z, len(widths) + 1, axis=-1)
        if self.num_classes:
            classes = nn.Embed(self.num_classes, self.shared_dim, embedding_init=orthogonal, name="classes")(labels)
            conditions = [jnp.concatenate([classes, chunk], axis=-1) for chunk in conditions]
        x = dense(first, math.prod(self.base) * base, "dense").reshape(-1, *self.base, base)
        for i, (width, condition) in enumerate(zip(widths, conditions)):
            h = norm_relu(x, condition, f"{i}a")
            h = conv(h, width, 3, f"conv_{i}a", convolve=upsample_conv)
            h = norm_relu(h, condition, f"{i}b")
            x = conv(h, width, 3, f"conv_{i}b") + upsample(conv(x, width, 1, f"skip_{i}"))
            if i == attending:
                x = spectral_norm(SelfAttention(self.dtype, name="attention"), train)(x)
        x = conv(nn.relu(norm(name="norm")(x)), self.image_channels, 3, "pixels")
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(sngan.Discriminator):
    """Is the discriminator of SNGAN with attention, and with blocks that widen in their first convolution."""

    attention_size: int | None = None
    orthogonal_init: bool = True
    relu_skips: bool = True

    WIDTHS: ClassVar = {
        16: (192,) * 3,
        32: (192,) * 4,
        64: (80, 160, 320, 640, 1280),
        128: (96, 192, 384, 768, 1536, 1536),
    }
    HALVINGS: ClassVar = {16: 1, 32: 2, 64: 4, 128: 5}
    widens_first = True
