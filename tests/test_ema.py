"""Moving averages: half-lives, power functions by brute force, and widths that were never tracked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.gan import ema
from jaxgan.gan.ema import ExponentialEma, PowerEma, power_exponent
from jaxgan.gan.schedules import Schedule, parse_schedule
from tests.helpers import relative_distance, run, tiny_recipe

BATCH = 100


def profile(images, sigma_rel):
    """Shares of the steps at BATCH, 2 BATCH, ... images in the average at `images`, by its definition."""
    edges = np.arange(0, images + 1, BATCH) / images
    return np.diff(edges ** (power_exponent(sigma_rel) + 1))


def track(values, sigma_rel):
    """The average after each step, by its update."""
    kind = PowerEma(power_exponent(sigma_rel))

    def step(average, now):
        images_seen, value = now
        average = ema.update(average, value, kind.decay(images_seen, BATCH))
        return average, average

    images_seen = BATCH * (1.0 + jnp.arange(len(values)))
    anything = jnp.full(values.shape[1], 1e3)
    return np.asarray(jax.jit(jax.lax.scan, static_argnums=0)(step, anything, (images_seen, jnp.float32(values)))[1])


@pytest.fixture(scope="module")
def walk():
    """Weights of 3 parameters over 400 steps: a random walk."""
    return np.cumsum(np.random.default_rng(0).normal(size=(400, 3)), axis=0)


def test_half_life():
    """After a half-life the old value weighs one half, at any batch size."""
    kind = ExponentialEma(Schedule(1000.0))
    for batch in (10, 100):
        average = np.float32(1.0)
        for step in range(1000 // batch):
            average = ema.update(average, 0.0, kind.decay((step + 1.0) * batch, batch))
        np.testing.assert_allclose(average, 0.5, rtol=1e-5)


def test_ramp_and_off():
    kind = ExponentialEma(Schedule(1000.0), rampup=0.05)
    np.testing.assert_allclose(kind.decay(2000.0, 50), 0.5 ** (50 / 100), rtol=1e-6)
    np.testing.assert_allclose(kind.decay(1e6, 50), 0.5 ** (50 / 1000), rtol=1e-6)
    off = ExponentialEma(Schedule(0.0), rampup=0.05)
    assert float(ema.update(jnp.float32(3.0), jnp.float32(8.0), off.decay(1e6, 50))) == 8.0


def test_averages_of_a_run():
    """By half-life on a schedule, and by power functions, of which the first step forgets what came before."""
    half_life = parse_schedule(0.0, "linear to 16 in 0.016 kimg", 1.0)
    powers = {"0.1": PowerEma(power_exponent(0.1)), "0.2": PowerEma(power_exponent(0.2))}
    recipe = tiny_recipe(ema=ExponentialEma(half_life), posthoc_ema=powers)
    (one, _), (two, _) = run(recipe, steps=1), run(recipe, steps=2)
    averages = {"half-life": (one.ema, two.ema, 0.5 ** (8 / 16))}  # it is 16 images after the second step
    for name, sigma_rel in (("0.1", 0.1), ("0.2", 0.2)):
        weight = 0.5 ** (power_exponent(sigma_rel) + 1)  # of the first of two steps
        averages[name] = (one.posthoc_ema[name], two.posthoc_ema[name], weight)
        assert relative_distance(one.g.variables, one.posthoc_ema[name]) <= 1e-7
    for first, second, weight in averages.values():
        expected = jax.tree.map(lambda a, b, w=weight: w * a + (1 - w) * b, first, two.g.variables)
        assert relative_distance(expected, second) <= 1e-6


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.25, 12**-0.5])
def test_exponent_gives_the_width(sigma_rel):
    """Mean and variance of the density (e + 1) t^e on [0, 1] by quadrature."""
    exponent = power_exponent(sigma_rel)
    t = (np.arange(200_000) + 0.5) / 200_000
    density = (exponent + 1) * t**exponent / len(t)
    mean = (density * t).sum()
    np.testing.assert_allclose(np.sqrt((density * (t - mean) ** 2).sum()), sigma_rel, rtol=1e-4)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2])
def test_the_update_gives_the_power_profile(walk, sigma_rel):
    """Every intermediate average, and whatever stood there before the first step is forgotten."""
    tracked = track(walk, sigma_rel)
    for steps in (1, 2, 37, 400):
        np.testing.assert_allclose(tracked[steps - 1], profile(steps * BATCH, sigma_rel) @ walk[:steps], atol=1e-4)


def test_the_widest_power_average_is_the_mean(walk):
    np.testing.assert_allclose(track(walk, 12**-0.5)[-1], walk.mean(axis=0), atol=1e-4)


def test_decay_is_exact_late_in_a_long_run():
    """At 250 million images one step of 512 weighs 512 / 2.5e8 * (e + 1): float32 must not lose it."""
    exponent = power_exponent(0.1)
    weight = 1 - float(PowerEma(exponent).decay(2.5e8, 512))
    np.testing.assert_allclose(weight, 512 / 2.5e8 * (exponent + 1), rtol=5e-3)


@pytest.mark.parametrize(("images", "sigma_rel"), [(40_000, 0.05), (40_000, 0.1), (40_000, 0.15), (30_000, 0.08)])
def test_posthoc_average_is_that_of_the_other_width(walk, images, sigma_rel):
    """Two widths stored at 16 times stand in for any width in between or above, also in the middle of the run."""
    stored = [(2500 * (i + 1), sigma) for sigma in (0.05, 0.1) for i in range(16)]
    weights = ema.posthoc_weights(*zip(*stored), images, sigma_rel)
    assert weights.sum() == pytest.approx(1)
    tracked = {sigma: track(walk, sigma) for sigma in (0.05, 0.1)}
    averages = [{"w": tracked[sigma][n // BATCH - 1]} for n, sigma in stored]
    expected = profile(images, sigma_rel) @ walk[: images // BATCH]
    error = np.abs(ema.combine(averages, weights)["w"] - expected).max()
    assert error < 0.01 * np.abs(walk.mean(axis=0) - expected).max()


def test_posthoc_weights_of_a_stored_average_pick_it():
    weights = ema.posthoc_weights([1e3, 2e3, 2e3], [0.1, 0.05, 0.1], 2e3, 0.05)
    np.testing.assert_allclose(weights, [0, 1, 0], atol=1e-9)


def test_posthoc_weights_are_the_least_squares():
    """Against a solution on a fine grid of images."""
    times, sigmas = np.array([4e3, 8e3, 8e3]), np.array([0.1, 0.1, 0.2])
    t = (np.arange(100_000) + 0.5) / 100_000 * 8e3

    def density(time, sigma):
        exponent = power_exponent(sigma)
        return np.where(t <= time, (exponent + 1) / time * (np.minimum(t, time) / time) ** exponent, 0)

    columns = np.stack([density(*ts) for ts in zip(times, sigmas)], axis=1)
    solution = np.linalg.lstsq(columns, density(8e3, 0.15))[0]
    np.testing.assert_allclose(ema.posthoc_weights(times, sigmas, 8e3, 0.15), solution / solution.sum(), rtol=1e-3)


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.3])
def test_a_width_that_no_power_function_has(sigma_rel):
    with pytest.raises(ValueError, match="sigma_rel="):
        power_exponent(sigma_rel)


def test_a_time_after_all_stored_averages():
    with pytest.raises(ValueError, match="up to 2000 images"):
        ema.posthoc_weights([1e3, 2e3], [0.1, 0.1], 3e3, 0.1)
