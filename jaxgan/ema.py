"""Exponential moving average of the generator, counted in images so that it means the same at any batch size."""

import jax
import jax.numpy as jnp


def decay(images_seen, images_per_step: int, half_life: float, rampup: float):
    """Weight of the old average in one step, in [0, 1).

    Args:
      images_seen: real images shown to D so far, after this step.
      images_per_step: of them in this step.
      half_life: in images; 0 turns averaging off.
      rampup: the half-life is at most this share of `images_seen` (Karras et al. 2020, StyleGAN2-ADA); 0: no ramp.
    """
    if half_life == 0:
        return jnp.float32(0.0)
    if rampup:
        half_life = jnp.minimum(half_life, rampup * images_seen)
    return 0.5 ** (images_per_step / half_life)


def update(average, new, weight):
    """average <- weight * average + (1 - weight) * new, for every array of the variables.

    Batch statistics are averaged like the parameters that they were measured under (Brock et al. 2019).
    """
    return jax.tree.map(lambda a, n: n + weight * (a - n), average, new)
