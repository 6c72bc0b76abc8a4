"""Generators from checkpoints: what was saved, and post-hoc EMAs of widths that were never tracked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError
from jaxgan.data import DataSpec
from jaxgan.gan.ema import power_exponent
from jaxgan.gan.recipe import make_generator
from jaxgan.settings import default_config, to_json

BATCH = 100
DATA = DataSpec(8, 1, 10, 1000, "none")
WALK = np.cumsum(np.random.default_rng(0).normal(size=400))  # a weight after each of 400 steps


def tiny_config(**changes):
    config = default_config()
    config.batch_size = BATCH
    config.data.image_size = 8
    config.model.update(name="mlp", z_dim=16, conditional=True)
    config.model.g.channels = (4, 4)
    config.update_from_flattened_dict(changes)
    return config


def variables_of(module):
    labels, keys = jnp.zeros(1, jnp.int32), jax.random.split(jax.random.key(0), 1)
    return jax.jit(lambda: module.init(keys[0], jnp.zeros((1, 16)), labels, train=False, keys=keys))()


def average(step, sigma_rel):
    """The power-function average of the walk after so many steps, by its definition."""
    edges = np.arange(step + 1) / step
    return np.diff(edges ** (power_exponent(sigma_rel) + 1)) @ WALK[:step]


def save(directory, config, steps, items):
    """Writes a checkpoint for each step, of what `items(step)` returns."""
    with Checkpoints(directory, keep_last=len(steps)) as checkpoints:
        for step in steps:
            checkpoints.save(step, items(step), {"config": config.to_dict(), "data": DATA._asdict()})


def test_a_generator_is_loaded_as_it_was_saved(tmp_path):
    """From a workdir, a directory of checkpoints and one checkpoint; also where a workdir keeps them elsewhere."""
    config = tiny_config(**{"checkpoint.dir": str(tmp_path / "elsewhere")})
    module = make_generator(config, DATA)
    variables = variables_of(module)
    save(tmp_path / "elsewhere", config, [1, 2], lambda step: {"ema": jax.tree.map(lambda x: x * step, variables)})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(to_json(config))
    expected = jaxgan.Generator(module, jax.tree.map(lambda x: x * 2, variables), z_dim=16).sample(3)
    for path in ("run", "elsewhere", "elsewhere/2"):
        generator = jaxgan.load(tmp_path / path)
        assert (generator.step, generator.num_classes, generator.image_shape) == (2, 10, (8, 8, 1))
        assert generator.data == DATA
        assert generator.config.batch_size == BATCH
        np.testing.assert_array_equal(generator.sample(3), expected)
    first = jaxgan.load(tmp_path / "run", step=1)
    jax.tree.map(np.testing.assert_array_equal, first.variables, variables)
    with pytest.raises(ConfigError, match=r"^step=7: .*run has the checkpoints 1, 2$"):
        jaxgan.load(tmp_path / "run", step=7)
    with pytest.raises(ValueError, match=r"sigma_rel=0.1: .* train with config.ema.sigma_rel above 0"):
        jaxgan.load(tmp_path / "run", sigma_rel=0.1)


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        (None, {}, "^path=None: must be a path$"),
        ("nowhere", {}, "^path='nowhere': no checkpoint in .*nowhere: no numbered directory in it"),
        ("run", dict(step=2.5), r"^step=2\.5: must be a whole number, 0 or above$"),
        ("run", dict(step=-1), "^step=-1: must be a whole number, 0 or above$"),
        ("run", dict(sigma_rel="a"), "^sigma_rel='a': must be above 0 and at most 0.2887, that of a plain mean$"),
        ("run", dict(sigma_rel=float("nan")), "^sigma_rel=nan: must be above 0 and at most"),
    ],
)
def test_what_names_no_generator(path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        jaxgan.load(path, **arguments)


@pytest.mark.slow
def test_a_run_gets_an_ema_of_another_width_after_the_fact(tmp_path):
    """From two widths stored 10 times in 400 steps; one that was stored is found again."""
    config = tiny_config(**{"ema.sigma_rel": 0.05, "ema.posthoc": (0.1,)})
    ones = jax.tree.map(jnp.ones_like, variables_of(make_generator(config, DATA)))

    def items(step):
        narrow, wide = average(step, 0.05), average(step, 0.1)
        return {
            "ema": jax.tree.map(lambda x: x * narrow, ones),
            "posthoc_ema": {"0.1": jax.tree.map(lambda x: x * wide, ones)},
        }

    save(tmp_path, config, range(40, 401, 40), items)
    for step, sigma_rel in ((400, 0.08), (320, 0.15)):
        generator = jaxgan.load(tmp_path, step, sigma_rel)
        assert (generator.step, generator.config.ema.sigma_rel) == (step, sigma_rel)
        (value,) = {float(x.flat[0]) for x in map(np.asarray, jax.tree.leaves(generator.variables))}
        expected = average(step, sigma_rel)
        assert abs(value - expected) < 0.02 * abs(WALK[:step].mean() - expected)
    for sigma_rel in (0.05, 0.1):
        generator = jaxgan.load(tmp_path, sigma_rel=sigma_rel)
        np.testing.assert_allclose(jax.tree.leaves(generator.variables)[0], average(400, sigma_rel), rtol=1e-5)
    with pytest.raises(ValueError, match=r"sigma_rel=0\.4"):
        jaxgan.load(tmp_path, sigma_rel=0.4)
