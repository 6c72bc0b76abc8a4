"""Every config, shrunk: it is sound as it stands, and two steps of it on two devices resume to the same bits."""

import functools
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError
from jaxgan.core.parallel import Devices, assert_replicated
from jaxgan.gan.state import create_state, make_nets
from jaxgan.gan.step import make_update, scan_steps
from jaxgan.models import MODELS
from jaxgan.training.check import check
from tests.test_update import KEY, batches, split

CONFIGS = {path.stem: path for path in sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))}
# The smallest of each architecture: pixels, widths of G and of D, options of G and of D.
TINY = {
    "mlp": (8, (8, 8), (8, 8), "", ""),
    "dcgan": (16, (16, 8, 8), (8, 8, 16), "", ""),
    "dcgan_strided": (16, (16, 8), (8, 16), "", ""),
    "sngan": (16, (8,) * 3, (8,) * 3, "", ""),
    "sagan": (16, (8,) * 3, (8,) * 3, "", ""),
    "biggan": (16, (8,) * 3, (8,) * 3, "shared_dim=8", ""),
    "stylegan2": (8, (8, 8), (8, 8), "w_dim=16", "mapping_layers=1"),
    "r3gan": (8, (16, 16), (16, 16), "blocks=1", "blocks=1"),
    "r3gan2": (8, (16,), (16,), "blocks=1, group_width=16", "blocks=1, group_width=16"),
}
RUNS = [name for name in CONFIGS if name != "r3gan"]  # which is cifar_r3gan in other sizes
QUICK = ("digits", "cifar_wgan_gp", "cifar_stylegan2_ada", "cifar_r3gan2")


def load(name):
    spec = importlib.util.spec_from_file_location(name, CONFIGS[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shrunk(name):
    config = load(name).get_config()
    config.data.image_size, *fields = TINY[config.model.name]
    config.data.channels, config.data.num_classes = 3, 10
    for key, value in zip(("g_channels", "d_channels"), fields[:2], strict=True):
        config.model[key] = value
    for net, options in zip("gd", fields[2:], strict=True):  # what a recipe chooses stays
        config.model[f"{net}_options"] = ", ".join(filter(None, (config.model[f"{net}_options"], options)))
    config.model.z_dim = 8
    config.batch_size = 8
    config.d_steps = min(config.d_steps, 2)
    config.dtype = "float32"  # quicker here
    config.steps_per_call = 1
    for penalty in config.penalty.values():
        penalty.interval = min(penalty.interval, 2)  # so that the second step has it
    return config


@pytest.mark.parametrize("name", RUNS)
def test_config_is_sound_as_it_stands(name):
    module = load(name)
    assert f"python -m jaxgan.main --config=configs/{name}.py\n" in module.__doc__
    check(module.get_config(), 8)
    if not module.get_config.__code__.co_argcount:
        return
    conditional, unconditional = module.get_config(), module.get_config("unconditional")
    check(unconditional, 8)
    assert (conditional.model.conditional, unconditional.model.conditional) == (True, False)
    with pytest.raises(ConfigError, match=f"configs/{name}.py:both: "):
        module.get_config("both")


@pytest.mark.parametrize(
    ("preset", "g", "d"),
    [
        ("ffhq64", 22_429_824, 22_381_440),
        ("ffhq256", 23_057_952, 23_009_568),
        ("imagenet32", 82_914_304, 86_548_992),
        ("imagenet64", 103_570_432, 107_205_120),
    ],
)
def test_presets_of_r3gan(preset, g, d):
    """Sound once the images are named, with the parameters of the official nets."""
    module = load("r3gan")
    config = module.get_config(preset)
    config.data.dir = "images"
    check(config, 8)
    config.data.num_classes = 1000 if config.model.conditional else 0
    state = jax.eval_shape(functools.partial(create_state, make_nets(config)), KEY)
    assert [sum(a.size for a in jax.tree.leaves(net.params)) for net in (state.g, state.d)] == [g, d]
    assert f"{preset} " in module.__doc__
    assert f"{g:,}" in module.__doc__
    assert f"{d:,}" in module.__doc__


def test_an_unknown_preset_of_r3gan():
    with pytest.raises(ConfigError, match=r"configs/r3gan\.py:lsun: the presets are ffhq64, ffhq256"):
        load("r3gan").get_config("lsun")


def test_every_architecture_has_a_config():
    assert {load(name).get_config().model.name for name in CONFIGS} == set(MODELS) == set(TINY)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_two_steps_on_two_devices_resume_to_the_same_bits(name, tmp_path):
    config = shrunk(name)
    check(config, 2)
    nets, devices = make_nets(config), Devices(config.parallel, jax.devices()[:2])
    create = jax.jit(lambda key: create_state(nets, key))
    step = devices.parallelize(scan_steps(make_update(config, nets)))
    data = [devices.put_batch(split(jax.tree.map(lambda x, i=i: x[i : i + 1], batches(config, 2)), 2)) for i in (0, 1)]

    first, _ = step(devices.replicate(create(KEY)), data[0], KEY)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, first, config.to_dict())
        checkpoints.wait()
        restored = checkpoints.restore(jax.eval_shape(create, KEY))
    before = jax.device_get(first)
    straight, metrics = step(first, data[1], KEY)
    resumed, again = step(devices.replicate(restored), data[1], KEY)
    assert_replicated((straight, metrics))
    straight, resumed, metrics, again = jax.device_get((straight, resumed, metrics, again))
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)
    jax.tree.map(np.testing.assert_array_equal, metrics, again)

    assert all(np.isfinite(value) for value in metrics.values())
    assert {f"penalty/{n}" for n, p in config.penalty.items() if p.weight} <= set(metrics)
    for old, new in ((before.g.params, straight.g.params), (before.d.params, straight.d.params)):
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", {load(name).get_config().model.name: name for name in RUNS}.values())
def test_fifty_steps_in_bfloat16_stay_finite(name):
    """Of one config of each architecture."""
    config = shrunk(name)
    config.dtype = "bfloat16"
    nets, devices = make_nets(config), Devices(config.parallel, jax.devices()[:1])
    step = devices.parallelize(scan_steps(make_update(config, nets)))
    data = devices.put_batch(split(batches(config, 50), 1))
    state, metrics = step(devices.replicate(jax.jit(lambda key: create_state(nets, key))(KEY)), data, KEY)
    assert state.step == 50
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(np.all(np.isfinite(array)) for array in jax.tree.leaves(jax.device_get(state)))
