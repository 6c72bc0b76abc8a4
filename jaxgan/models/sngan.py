"""SNGAN, residual nets (Miyato et al. 2018): at 32 pixels G has 4,276,739 and D 1,053,825 parameters.

With classes (cGAN-PD, Miyato & Koyama 2018) the blocks of G have class-conditional batch norm and D has a projection:
4,304,387 and 1,055,105 parameters. Weights start Glorot-uniform, with a gain of sqrt 2 in the 3x3 convolutions of the
blocks. A 1x1 convolution commutes with upsampling and with mean pooling, so skips convolve the smaller image.

StudioGAN's SNGAN at 32 pixels has orthogonal_init=True, bn_eps=1e-4 and relu_skips=True; its SAGAN is in sagan.py.
"""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.attention import SelfAttention, attention_block
from jaxgan.models.layers import (
    BaseDiscriminator,
    BaseGenerator,
    BatchNorm,
    Conv,
    bounded,
    conv_downsample,
    downsample,
    orthogonal,
    spectral_norm,
    upsample,
    upsample_conv,
)
from jaxgan.ops.colour import from_opponent, to_opponent

GLOROT = nn.initializers.glorot_uniform()
GLOROT_RELU = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


class Generator(BaseGenerator):
    """Maps z to 4x4, then has residual blocks that double the size, batch norm, ReLU, a 3x3 convolution and tanh."""

    attention_size: int | None = 0  # of the maps with self-attention, if images are square; None: half; 0: nowhere
    orthogonal_init: bool = False  # orthogonal initial weights everywhere, class tables too
    spectral: bool = False  # spectral norm on all weights
    spectral_tables: bool = True  # where weights have it, on class tables too; False: as mimicry's SAGAN has it
    bilinear: bool = False  # enlarges maps by bilinear interpolation, as mimicry does; False: by repeating pixels
    bn_eps: float = bounded(1e-5)
    opponent: bool = False  # the last convolution paints opponent colours, see `ops.colour`; False: RGB

    WIDTHS: ClassVar = {16: (256,) * 3, 32: (256,) * 4, 64: (1024, 512, 256, 128, 64)}
    stages = True
    latent_layers = "dense"

    @nn.compact
    def __call__(self, z, labels, train, keys=None) -> jax.Array:
        glorot, glorot_relu = (orthogonal, orthogonal) if self.orthogonal_init else (GLOROT, GLOROT_RELU)
        tables = orthogonal if self.orthogonal_init else nn.initializers.zeros_init()

        def wrap(layer):
            return spectral_norm(layer, train) if self.spectral else layer

        def norm_relu(x, name, num_classes=self.num_classes):
            layer = BatchNorm(num_classes, self.axis_name, self.dtype, self.bn_eps, tables, name=name)
            return nn.relu((wrap(layer) if self.spectral_tables else layer)(x, labels, train))

        def conv(x, width, size, init, name, **options):
            return wrap(Conv(width, (size, size), kernel_init=init, dtype=self.dtype, name=name, **options))(x)

        def enlarge(x):
            b, h, w, c = x.shape
            return jax.image.resize(x, (b, 2 * h, 2 * w, c), "linear") if self.bilinear else upsample(x)

        base, *widths = self.widths
        attending = attention_block(self.attention_size, self.square_size, [8 << i for i in range(len(widths))])
        dense = nn.Dense(math.prod(self.base) * base, kernel_init=glorot, dtype=self.dtype, name="dense")
        x = wrap(dense)(z).reshape(-1, *self.base, base)
        for i, width in enumerate(widths):
            h = norm_relu(x, f"norm_{i}a")
            if self.bilinear:
                h = conv(enlarge(h), width, 3, glorot_relu, f"conv_{i}a")
            else:
                h = conv(h, width, 3, glorot_relu, f"conv_{i}a", convolve=upsample_conv)
            h = norm_relu(h, f"norm_{i}b")
            h = conv(h, width, 3, glorot_relu, f"conv_{i}b")
            x = h + enlarge(conv(x, width, 1, glorot, f"skip_{i}"))
            if i == attending:
                x = wrap(SelfAttention(self.dtype, glorot, name="attention"))(x)
        x = conv(norm_relu(x, "norm", num_classes=0), self.image_channels, 3, glorot, "pixels").astype(jnp.float32)
        return jnp.tanh(from_opponent(x) if self.opponent else x)


class Discriminator(BaseDiscriminator):
    """Has residual blocks, the first ones halving the size, ReLU and a sum over space, all under spectral norm."""

    attention_size: int | None = 0  # as in the generator
    orthogonal_init: bool = False
    relu_skips: bool = False  # skips take ReLU(x), as StudioGAN's ReLU in place makes them; False: x, as in the paper
    spectral: bool = True  # spectral norm on all weights; False: the critic of WGAN-GP
    opponent: bool = False  # the first layers see opponent colours, see `ops.colour`; False: RGB
    halvings: int | None = None  # how many blocks, from the first, halve even sizes; None: 2 at 32 pixels, see HALVINGS

    WIDTHS: ClassVar = {16: (128,) * 3, 32: (128,) * 4, 64: (64, 128, 256, 512, 1024)}
    HALVINGS: ClassVar = {16: 1, 32: 2, 64: 5}  # square_size -> the architecture's own `halvings`
    widens_first = False  # whether a block widens in its first convolution or in its second
    stages = True
    batch_dependent = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None) -> tuple[jax.Array, dict]:
        glorot, glorot_relu = (orthogonal, orthogonal) if self.orthogonal_init else (GLOROT, GLOROT_RELU)

        def wrap(layer):
            return spectral_norm(layer, train) if self.spectral else layer

        def conv(x, width, size, init, name, **options):
            return wrap(Conv(width, (size, size), kernel_init=init, dtype=self.dtype, name=name, **options))(x)

        widths = self.widths
        halvings = self.HALVINGS[self.square_size] if self.halvings is None else self.halvings
        if not 0 <= halvings <= len(widths):
            raise ValueError(f"halvings={halvings}: must be in 0 .. {len(widths)}, the number of blocks")
        ends = [self.square_size >> min(i + 1, halvings) for i in range(len(widths))]
        attending = attention_block(self.attention_size, self.square_size, ends)
        x = to_opponent(images) if self.opponent else images
        for i, width in enumerate(widths):
            down = i < halvings and not any(side % 2 for side in x.shape[1:3])
            # The first block sees pixels: there is no ReLU before it, and its first convolution widens in any case.
            active = nn.relu(x) if i else x
            hidden = width if self.widens_first or i == 0 else x.shape[-1]
            h = conv(active, hidden, 3, glorot_relu, f"conv_{i}a")
            resampled = dict(convolve=conv_downsample) if down else {}
            h = conv(nn.relu(h), width, 3, glorot_relu, f"conv_{i}b", **resampled)
            skip = active if self.relu_skips else x
            if down:
                skip = downsample(skip)
            if down or width != x.shape[-1]:
                skip = conv(skip, width, 1, glorot, f"skip_{i}")
            x = h + skip
            if i == attending:
                x = wrap(SelfAttention(self.dtype, glorot, name="attention"))(x)
        x = nn.relu(x).astype(jnp.float32).sum(axis=(1, 2))
        return self.head(x, labels, glorot, wrap=wrap)
