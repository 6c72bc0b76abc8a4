"""Pixels between uint8, as they are stored, and float32 in [-1, 1], as the networks see them; pure JAX functions."""

import jax
import jax.numpy as jnp

from jaxgan.core import rng


def to_float(images: jax.Array) -> jax.Array:
    """Returns uint8 pixels in 0..255 as float32 in [-1, 1], of the same shape."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(images: jax.Array) -> jax.Array:
    """Returns float pixels in [-1, 1] as uint8, of the same shape: the inverse of `to_float`; clips those outside."""
    return jnp.round((jnp.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


def random_flip(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Returns each image flipped horizontally with probability 1/2.

    Args:
      keys: one typed key an image, [B].
      images: [B, H, W, C].
    """
    flipped = rng.uniform(keys) < 0.5
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)
