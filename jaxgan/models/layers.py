"""Layers that several architectures share: NHWC images, compute in `dtype`, parameters in float32."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import rng
from jaxgan.ops import conv as ops

Conv = functools.partial(nn.Conv, conv_general_dilated=ops.conv_general_dilated)


class ConvTranspose(nn.Module):
    """Transposed convolution that multiplies the size by `stride`: kernel k, padding (k - stride) / 2 a side."""

    features: int
    kernel_size: int
    stride: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        padding = (self.kernel_size - self.stride) // 2
        return ops.conv_transpose(x, kernel, stride=self.stride, padding=padding) + bias


class BatchNorm(nn.Module):
    """Batch norm over all devices of `axis_name`; with classes, a gain and a bias for each class.

    Conditional form: gain = 1 + table[y], both tables start at zero (de Vries et al. 2017).
    """

    num_classes: int = 0
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None, train: bool) -> jax.Array:
        plain = self.num_classes == 0
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            use_scale=plain,
            use_bias=plain,
            axis_name=self.axis_name,
            dtype=self.dtype,
            name="norm",
        )(x)
        if plain:
            return x
        tables = [
            nn.Embed(self.num_classes, x.shape[-1], embedding_init=nn.initializers.zeros_init(), name=name)
            for name in ("gain", "bias")
        ]
        gain, bias = (t(labels).astype(self.dtype).reshape(-1, *[1] * (x.ndim - 2), x.shape[-1]) for t in tables)
        return x * (1.0 + gain) + bias


def dropout(x: jax.Array, rate: float, keys: jax.Array) -> jax.Array:
    """Zero a share `rate` of each example's activations and rescale the rest; one key an example, [B]."""
    keep = rng.uniform(keys, x.shape[1:]) >= rate
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def upsample(x: jax.Array) -> jax.Array:
    """Nearest-neighbour enlargement by 2."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x: jax.Array) -> jax.Array:
    """Mean over 2x2 blocks."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
