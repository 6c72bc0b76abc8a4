"""Power-function averages: the definition by brute force, and widths that were never tracked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core.checkpoint import Checkpoints
from jaxgan.gan import ema
from jaxgan.gan.state import create_state, make_nets
from jaxgan.sampling.generator import load
from tests.test_update import KEY, tiny

BATCH = 100


def profile(images, sigma_rel):
    """Shares of the steps at BATCH, 2 BATCH, ... images in the average at `images`, by its definition."""
    edges = np.arange(0, images + 1, BATCH) / images
    return np.diff(edges ** (ema.power_exponent(sigma_rel) + 1))


def track(values, sigma_rel):
    """The average after each step, by its update."""
    average, out = jnp.zeros(values.shape[1]), []
    for step, value in enumerate(values):
        weight = ema.power_decay((step + 1) * BATCH, BATCH, sigma_rel)
        average = ema.update(average, jnp.asarray(value, jnp.float32), weight)
        out.append(np.asarray(average))
    return np.stack(out)


@pytest.fixture(scope="module")
def walk():
    """Weights of 3 parameters over 400 steps: a random walk."""
    return np.cumsum(np.random.default_rng(0).normal(size=(400, 3)), axis=0)


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.25, 12**-0.5])
def test_exponent_gives_the_width(sigma_rel):
    """Mean and variance of the density (e + 1) t^e on [0, 1] by quadrature."""
    exponent = ema.power_exponent(sigma_rel)
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
    exponent = ema.power_exponent(0.1)
    weight = 1 - float(ema.power_decay(2.5e8, 512, 0.1))
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
        exponent = ema.power_exponent(sigma)
        return np.where(t <= time, (exponent + 1) / time * (np.minimum(t, time) / time) ** exponent, 0)

    columns = np.stack([density(*ts) for ts in zip(times, sigmas)], axis=1)
    solution = np.linalg.lstsq(columns, density(8e3, 0.15))[0]
    np.testing.assert_allclose(ema.posthoc_weights(times, sigmas, 8e3, 0.15), solution / solution.sum(), rtol=1e-3)


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.3])
def test_a_width_that_no_power_function_has(sigma_rel):
    with pytest.raises(ValueError, match="sigma_rel="):
        ema.power_decay(100, 10, sigma_rel)


def test_a_time_after_all_stored_averages():
    with pytest.raises(ValueError, match="up to 2000 images"):
        ema.posthoc_weights([1e3, 2e3], [0.1, 0.1], 3e3, 0.1)


def test_a_run_gets_another_width_after_the_fact(walk, tmp_path):
    """From 16 checkpoints with two widths of 400 steps of a random walk."""
    widths = {"ema.sigma_rel": 0.05, "ema.posthoc": (0.1,)}
    config = tiny(model="mlp", **widths, **{"data.image_size": 8, "batch_size": BATCH})
    state = create_state(make_nets(config), KEY)
    ones = jax.tree.map(jnp.ones_like, state.ema)
    tracked = {sigma_rel: track(walk, sigma_rel)[:, 0] for sigma_rel in (0.05, 0.1)}
    with Checkpoints(tmp_path, keep_last=16) as checkpoints:
        for step in range(25, 401, 25):
            narrow, wide = (jax.tree.map(lambda a, value=float(t[step - 1]): value * a, ones) for t in tracked.values())
            now = state.replace(step=jnp.int32(step), ema=narrow, posthoc={"0.1": wide})
            checkpoints.save(step, now, config.to_dict())
    for step, sigma_rel in ((400, 0.08), (300, 0.15)):
        generator = load(tmp_path, step, sigma_rel)
        assert generator.step == step
        assert generator.config.ema.sigma_rel == sigma_rel
        (value,) = {float(a.flat[0]) for a in map(np.asarray, jax.tree.leaves(generator.variables))}
        expected = profile(step * BATCH, sigma_rel) @ walk[:step, 0]
        assert abs(value - expected) < 0.01 * np.abs(walk[:step, 0].mean() - expected)
    np.testing.assert_allclose(
        *(jax.tree.leaves(load(tmp_path, **kind).variables)[0] for kind in ({}, {"sigma_rel": 0.05})), rtol=1e-5
    )
    with pytest.raises(ValueError, match="sigma_rel=0"):
        load(tmp_path, sigma_rel=0.4)


def test_a_run_without_a_power_function_average(tmp_path):
    config = tiny(model="mlp", **{"data.image_size": 8})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, create_state(make_nets(config), KEY), config.to_dict())
    with pytest.raises(ValueError, match="the average of this run is no power function"):
        load(tmp_path, sigma_rel=0.1)
