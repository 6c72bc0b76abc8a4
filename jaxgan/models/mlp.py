"""The textbook's first GAN: a dense generator against a small convolutional discriminator with dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.core import rng
from jaxgan.models.layers import BaseDiscriminator, BaseGenerator, BatchNorm, Conv, dropout

SIZES = range(8, 65)


class Generator(BaseGenerator):
    """Maps z through dense layers of 128 and 1024 to pixels, with batch norm and ReLU between them."""

    WIDTHS = dict.fromkeys(SIZES, (128, 1024))
    latent_layers = "dense_0"

    @nn.compact
    def __call__(self, z, labels, train, keys=None) -> jax.Array:
        x = z
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, dtype=self.dtype, name=f"dense_{i}")(x)
            x = BatchNorm(self.num_classes, self.axis_name, self.dtype, name=f"norm_{i}")(x, labels, train)
            x = nn.relu(x)
        x = nn.Dense(self.image_size**2 * self.image_channels, dtype=self.dtype, name="pixels")(x)
        x = x.reshape(-1, self.image_size, self.image_size, self.image_channels)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(BaseDiscriminator):
    """Has 3x3 convolutions of stride 2, LeakyReLU 0.2 and dropout 0.3, then a dense layer from all that is left."""

    WIDTHS = dict.fromkeys(SIZES, (64, 128))
    batch_dependent = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None) -> tuple[jax.Array, dict]:
        x = images
        for i, width in enumerate(self.widths):
            x = Conv(width, (3, 3), strides=2, dtype=self.dtype, name=f"conv_{i}")(x)
            x = nn.leaky_relu(x, 0.2)
            if train:
                x = dropout(x, 0.3, rng.fold(keys, i))
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return self.head(x, labels, nn.Dense.kernel_init, nn.Embed.embedding_init)
