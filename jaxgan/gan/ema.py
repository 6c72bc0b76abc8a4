"""Moving averages of the generator, counted in images so that they mean the same at any batch size.

An exponential one has a half-life. One with a power function for a profile (Karras et al. 2024, EDM2, section 3) grows
with the run: at image T the weights of image t count as t^exponent. A weighted sum of a few such averages, stored now
and then, makes one of another width or of an earlier time: post-hoc EMA, by `posthoc_weights`.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.core.errors import is_finite, require
from jaxgan.gan.schedules import Schedule, as_schedule, require_range


@flax.struct.dataclass
class ExponentialEma:
    """An average with a half-life.

    Attributes:
      half_life: in images, a schedule or a number; at 0 there is no averaging.
      rampup: the half-life is at most this fraction of the images seen so far (Karras et al. 2020, StyleGAN2-ADA); inf:
        no such limit.
    """

    half_life: Schedule | float
    rampup: float = math.inf

    def __post_init__(self):
        object.__setattr__(self, "half_life", as_schedule(self.half_life))
        require_range("ExponentialEma.half_life", self.half_life)

    def decay(self, images_seen, images_per_step: int) -> jax.Array:
        """Returns the weight of the old average in one step, in [0, 1).

        Args:
          images_seen: real images shown to D so far, after this step.
          images_per_step: how many of them this step has shown.
        """
        half_life = jnp.minimum(self.half_life(images_seen), self.rampup * images_seen)
        return 0.5 ** (images_per_step / half_life)  # 0 at half-life 0


@flax.struct.dataclass
class PowerEma:
    """An average whose profile is a power function of the relative std that `power_exponent` tells (EDM2)."""

    exponent: float

    def decay(self, images_seen, images_per_step: int) -> jax.Array:
        """Returns the weight of the old average in one step, in [0, 1) (EDM2, eq. 127); 0 in the first."""
        # Not (1 - fraction)^..., whose rounding in float32 is as large as the fraction is late in a long run.
        return jnp.exp((self.exponent + 1) * jnp.log1p(-images_per_step / jnp.float32(images_seen)))


def update(average, new, weight):
    """Returns weight * average + (1 - weight) * new, for every array of the variables.

    Batch statistics are averaged like the parameters that they were measured under (Brock et al. 2019).
    """
    return jax.tree.map(lambda a, n: n + weight * (a - n), average, new)


def power_exponent(sigma_rel: float, setting: str = "sigma_rel") -> float:
    """Returns the exponent of the power function with this relative standard deviation (EDM2, eq. 126).

    It solves sigma_rel^2 = (e + 1) / ((e + 2)^2 (e + 3)). sigma_rel is in (0, 12^-1/2], at most that of a mean; a
    ConfigError that begins with `setting` says so.
    """
    right = f"must be above 0 and at most {12**-0.5:.4f}, that of a plain mean"
    require(is_finite(sigma_rel, 0.0, 12**-0.5) and sigma_rel > 0, setting, sigma_rel, right)
    inverse = float(sigma_rel) ** -2
    return max(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max(), 0.0)


def posthoc_weights(images_seen, sigma_rel, target_images: float, target_sigma_rel: float) -> np.ndarray:
    """Returns how to add up N stored averages for one of another width or time, float64 [N] (EDM2, algorithm 3).

    The sum of the stored profiles is as near to the wanted one as can be, by least squares over all images. The
    weights sum to 1.

    Args:
      images_seen, sigma_rel: [N], when each average was stored, and its relative std.
      target_images, target_sigma_rel: the same of the average that is wanted.

    Raises:
      ValueError: it is of a later time than all stored ones.
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
    """Returns the integral over t of the profiles (e + 1) / T * (t / T)^e of a and of b, each on [0, T]."""
    until = np.minimum(time_a, time_b)
    powers = (until / time_a) ** exponent_a * (until / time_b) ** exponent_b
    scale = (exponent_a + 1) * (exponent_b + 1) / (exponent_a + exponent_b + 1)
    return scale * powers / np.maximum(time_a, time_b)


def combine(averages, weights):
    """Returns the weighted sum of N variables (pytrees of arrays), such as stored averages by `posthoc_weights`, [N].

    It takes one after the other, so that an iterator of `averages` need not have all in memory.
    """
    total = None
    for average, weight in zip(averages, weights, strict=True):
        part = jax.tree.map(lambda a, w=float(weight): w * a, average)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total
