"""Every packaged config, shrunk: it trains on two devices, resumes to the same bits, and stays finite in bfloat16."""

import functools

import jax
import numpy as np
import pytest

import jaxgan
from jaxgan import config_files
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.parallel import Devices, assert_replicated
from jaxgan.gan.recipe import Recipe, recipe_from_config
from jaxgan.gan.state import init_state
from jaxgan.gan.step import parallelize
from jaxgan.models import MODELS
from tests.helpers import KEY, assert_same_bits, initial_state, random_batches, split_batches

# The smallest of each architecture: pixels, widths of G and of D, other fields of G and of D.
TINY = {
    "mlp": (8, (8, 8), (8, 8), {}, {}),
    "dcgan": (16, (16, 8, 8), (8, 8, 16), {}, {}),
    "dcgan_strided": (16, (16, 8), (8, 16), {}, {}),
    "sngan": (16, (8,) * 3, (8,) * 3, {}, {}),
    "sagan": (16, (8,) * 3, (8,) * 3, {}, {}),
    "biggan": (16, (8,) * 3, (8,) * 3, dict(shared_dim=8), {}),
    "stylegan2": (8, (8, 8), (8, 8), dict(w_dim=16, mapping_layers=1), {}),
    "r3gan": (8, (16, 16), (16, 16), dict(blocks=1), dict(blocks=1)),
    "r3gan2": (8, (16,), (16,), dict(blocks=1, group_width=16), dict(blocks=1, group_width=16)),
}
# Shrunk, r3gan is cifar_r3gan and cifar, which differs in its dtype, is cifar_biggan_diffaug.
NAMES = [name for name in config_files.packaged() if name not in ("r3gan", "cifar")]
# One of each architecture, which goes on in bfloat16.
CHOSEN = {
    "mlp": "digits",
    "dcgan": "cifar_dcgan",
    "dcgan_strided": "laptop_dcgan",
    "sngan": "cifar_wgan_gp",
    "sagan": "cifar_sagan",
    "biggan": "cifar_biggan",
    "stylegan2": "cifar_stylegan2_ada",
    "r3gan": "cifar_r3gan",
    "r3gan2": "cifar_r3gan2",
}
QUICK, SLOW = {"digits"}, {"laptop_dcgan"}  # the others are long


def marked(name: str):
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.long)


def shrunk(name: str) -> Recipe:
    config = jaxgan.config(name)
    size, channels_g, channels_d, fields_g, fields_d = TINY[config.model.name]
    config.model.g.update(channels=channels_g, **fields_g)
    config.model.d.update(channels=channels_d, **fields_d)
    changes = {
        "data.image_size": size,
        "model.z_dim": 8,
        "batch_size": 8,
        "d_steps": min(config.d_steps, 2),
        "dtype": "bfloat16" if name in CHOSEN.values() else "float32",
    }
    changes |= {f"penalty.{key}.interval": min(section.interval, 2) for key, section in config.penalty.items()}
    config.update_from_flattened_dict(changes)
    return recipe_from_config(config)


def test_every_architecture_is_chosen():
    assert set(TINY) == set(CHOSEN) == set(MODELS)
    for architecture, name in CHOSEN.items():
        assert jaxgan.config(name).model.name == architecture


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_a_config_trains_and_resumes_to_the_same_bits(name, tmp_path):
    """From a checkpoint after the first of two steps; those of each architecture go on for 18 more in bfloat16."""
    recipe, devices = shrunk(name), Devices("pmap", jax.devices()[:2])
    step, place = parallelize(recipe, devices), devices.replicate
    data = random_batches(recipe, 20)
    batches = [devices.put_batch(split_batches(jax.tree.map(lambda x, i=i: x[i : i + 1], data), 2)) for i in range(20)]

    first, _ = step(place(initial_state(recipe)), batches[0], KEY)
    before = jax.device_get(first)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"state": first}, {})
        checkpoints.wait()
        restored = checkpoints.restore({"state": jax.eval_shape(functools.partial(init_state, recipe), KEY)})["state"]
    straight, metrics = step(first, batches[1], KEY)
    resumed, again = step(place(restored), batches[1], KEY)
    assert_replicated((straight, metrics))
    assert_same_bits(jax.device_get(resumed), jax.device_get(straight))
    assert_same_bits(jax.device_get(again), jax.device_get(metrics))

    assert all(np.isfinite(float(mean)) for mean in metrics.values())
    penalties = {f"penalty/{name}" for name in (*recipe.penalties_d, *recipe.penalties_g)}
    assert penalties == {name for name in metrics if name.startswith("penalty/")}
    for old, new in ((before.g.params, straight.g.params), (before.d.params, straight.d.params)):
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))

    if name in CHOSEN.values():
        state = straight
        for batch in batches[2:]:
            state, metrics = step(state, batch, KEY)
        assert state.step == 20
        assert all(np.isfinite(mean.total) for mean in metrics.values())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state)))
