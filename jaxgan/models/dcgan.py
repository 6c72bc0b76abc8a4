"""DCGAN (Radford et al. 2016) in the sizes of StudioGAN: at 32 pixels G has 3,812,355 and D 2,931,009 parameters.

StudioGAN puts a 3x3 convolution beside each of the paper's strided ones; dcgan_strided.py has the paper's alone.
With classes G has class-conditional batch norm and D a projection (Miyato & Koyama 2018).
"""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.layers import BaseDiscriminator, BaseGenerator, BatchNorm, Conv, ConvTranspose

WIDTHS = {16: (64, 128, 256), 32: (64, 128, 256, 512), 64: (64, 128, 256, 512, 1024)}
INIT = nn.initializers.normal(0.02)


class Generator(BaseGenerator):
    """Maps z to 4x4, doubles the size by 4x4 transposed convolutions, and ends in a 3x3 convolution and tanh.

    With `strided_only` the last transposed convolution makes the pixels, and the dense layer has batch norm too.
    """

    WIDTHS: ClassVar = {size: widths[::-1] for size, widths in WIDTHS.items()}
    latent_layers = "dense"
    stages = True
    strided_only = False

    @nn.compact
    def __call__(self, z, labels, train, keys=None) -> jax.Array:
        def deconv(x, width, name):
            return ConvTranspose(width, 4, 2, kernel_init=INIT, dtype=self.dtype, name=name)(x)

        def norm_relu(x, name):
            return nn.relu(BatchNorm(self.num_classes, self.axis_name, self.dtype, name=name)(x, labels, train))

        base, *widths = self.widths
        x = nn.Dense(math.prod(self.base) * base, kernel_init=INIT, dtype=self.dtype, name="dense")(z)
        x = x.reshape(-1, *self.base, base)
        if self.strided_only:
            x = norm_relu(x, "norm")
        for i, width in enumerate(widths):
            x = norm_relu(deconv(x, width, f"deconv_{i}"), f"norm_{i}")
        if self.strided_only:
            x = deconv(x, self.image_channels, "pixels")
        else:
            x = Conv(self.image_channels, (3, 3), kernel_init=INIT, dtype=self.dtype, name="pixels")(x)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(BaseDiscriminator):
    """Halves the size to 4x4 by pairs of a 3x3 and a strided 4x4 convolution, then one more 3x3 and a sum over space.

    With `strided_only` there are no 3x3 ones and no batch norm on the first layer, and the head sees all 4x4 pixels.
    """

    WIDTHS = WIDTHS
    stages = True
    batch_dependent = True
    strided_only = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None) -> tuple[jax.Array, dict]:
        def block(x, width, kernel, stride, name):
            conv = Conv(width, (kernel, kernel), stride, kernel_init=INIT, dtype=self.dtype, name=f"conv_{name}")
            norm = BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name=f"norm_{name}")
            x = conv(x)
            if not (self.strided_only and name == "0"):
                x = norm(x, None, train)
            return nn.leaky_relu(x, 0.2)

        x = images
        if self.strided_only:
            for i, width in enumerate(self.widths):
                x = block(x, width, 4, 2, str(i))
            return self.head(x.astype(jnp.float32).reshape(len(x), -1), labels, INIT)
        *widths, last = self.widths
        for i, width in enumerate(widths):
            x = block(x, width, 3, 1, f"{i}a")
            x = block(x, width, 4, 2, f"{i}b")
        x = block(x, last, 3, 1, "last").astype(jnp.float32).sum(axis=(1, 2))
        return self.head(x, labels, INIT)
