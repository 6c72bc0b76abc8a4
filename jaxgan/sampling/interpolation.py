"""Straight and spherical interpolation."""

import jax
import jax.numpy as jnp


def lerp(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the points of the straight line from `start` (t = 0) to `end` (t = 1); the shapes broadcast."""
    return start + t * (end - start)


def slerp(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the points of the great circle from `start` (t = 0) to `end` (t = 1) over the last axis.

    A chord of Gaussian latents would leave the shell where they lie (White 2016, "Sampling generative networks").

        slerp(a, b, t) = sin((1 - t) angle) / sin(angle) a + sin(t angle) / sin(angle) b

    Args:
      start, end: vectors [..., Z], neither parallel nor zero; the shapes broadcast.
      t: positions [..., 1].
    """
    norms = jnp.linalg.norm(start, axis=-1, keepdims=True) * jnp.linalg.norm(end, axis=-1, keepdims=True)
    angle = jnp.arccos(jnp.clip(jnp.sum(start * end, axis=-1, keepdims=True) / norms, -1.0, 1.0))
    return (jnp.sin((1.0 - t) * angle) * start + jnp.sin(t * angle) * end) / jnp.sin(angle)
