"""Moving averages of the generator, counted in images so that they mean the same at any batch size.

Exponential ones have a half-life. Those with a power function for a profile (Karras et al. 2024, EDM2, section 3) grow
with the run: at image T the weights of image t count as t^exponent. Of a few such averages, stored now and then, one
of another width or of an earlier time is a weighted sum: their `posthoc_weights`.
"""

import jax
import jax.numpy as jnp
import numpy as np


def decay(images_seen, images_per_step: int, half_life: float, rampup: float):
    """Weight of the old average in one step, in [0, 1).

    Args:
      images_seen: real images shown to D so far, after this step.
      images_per_step: of them in this step.
      half_life: in images, may be traced; 0 turns averaging off.
      rampup: the half-life is at most this share of `images_seen` (Karras et al. 2020, StyleGAN2-ADA); 0: no ramp.
    """
    half_life = jnp.asarray(half_life, jnp.float32)
    if rampup:
        half_life = jnp.minimum(half_life, rampup * images_seen)
    return 0.5 ** (images_per_step / half_life)  # 0 at half-life 0


def update(average, new, weight):
    """average <- weight * average + (1 - weight) * new, for every array of the variables.

    Batch statistics are averaged like the parameters that they were measured under (Brock et al. 2019).
    """
    return jax.tree.map(lambda a, n: n + weight * (a - n), average, new)


def power_exponent(sigma_rel: float) -> float:
    """Exponent of the power function whose standard deviation is `sigma_rel` of the run's length (EDM2, eq. 126).

    It solves sigma_rel^2 = (e + 1) / ((e + 2)^2 (e + 3)). sigma_rel is in (0, 12^-1/2], at most that of a mean.
    """
    if not 0 < sigma_rel <= 12**-0.5:
        raise ValueError(f"sigma_rel={sigma_rel}: must be above 0 and at most {12**-0.5:.4f}, that of a plain mean")
    inverse = float(sigma_rel) ** -2
    return max(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max(), 0.0)


def power_decay(images_seen, images_per_step: int, sigma_rel: float):
    """Weight of the old average in one step of a power-function average, in [0, 1) (EDM2, eq. 127); 0 in the first.

    Args:
      images_seen, images_per_step: as for `decay`.
      sigma_rel: width of the profile, relative to the run so far.
    """
    # Not (1 - share)^..., whose rounding in float32 is as large as the share is late in a long run.
    return jnp.exp((power_exponent(sigma_rel) + 1) * jnp.log1p(-images_per_step / jnp.float32(images_seen)))


def posthoc_weights(images_seen, sigma_rel, target_images: float, target_sigma_rel: float) -> np.ndarray:
    """How to add up N stored averages for one of another width or time: float64 [N], sums to 1 (EDM2, algorithm 3).

    Of all sums of the stored profiles it is nearest to the wanted one, by least squares over all images.

    Args:
      images_seen, sigma_rel: [N], when each average was stored, and its width.
      target_images, target_sigma_rel: the same of the average that is wanted; a ValueError if after all stored ones.
    """
    times = np.asarray(images_seen, np.float64)
    if not 0 < target_images <= times.max():
        raise ValueError(f"target_images={target_images}: averages are stored up to {times.max():g} images")
    exponents = np.array([power_exponent(s) for s in np.broadcast_to(sigma_rel, times.shape)])
    # Inner products of the profiles (EDM2, eq. 151), of stored ones with each other and with the target.
    products = _inner(times[:, None], exponents[:, None], times, exponents)
    with_target = _inner(times, exponents, target_images, power_exponent(target_sigma_rel))
    weights = np.linalg.lstsq(products, with_target)[0]
    return weights / weights.sum()


def _inner(time_a, exponent_a, time_b, exponent_b):
    """Integral over t of the profiles (e + 1) / T * (t / T)^e of a and of b, each on [0, T]."""
    until = np.minimum(time_a, time_b)
    powers = (until / time_a) ** exponent_a * (until / time_b) ** exponent_b
    scale = (exponent_a + 1) * (exponent_b + 1) / (exponent_a + exponent_b + 1)
    return scale * powers / np.maximum(time_a, time_b)


def combine(averages, weights):
    """The weighted sum of N variables (pytrees of arrays), such as stored averages by `posthoc_weights`, [N].

    One after the other, so that an iterator of `averages` need not have all in memory.
    """
    total = None
    for average, weight in zip(averages, weights, strict=True):
        part = jax.tree.map(lambda a, w=float(weight): w * a, average)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total
