"""Functions on several devices: what each sees, what comes back, and what compiles anew."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgan.core.errors import ConfigError
from jaxgan.core.parallel import (
    AXIS,
    Devices,
    all_gather,
    assert_replicated,
    assert_same_on_processes,
    axis_index,
    broadcast,
    first_replica,
    is_primary_process,
    is_shared,
    pmean,
)
from jaxgan.gan.step import parallelize
from tests.helpers import tiny_recipe


def test_collectives_without_an_axis_are_the_identity():
    tree = {"x": jnp.arange(3.0)}
    assert pmean(tree, None) is tree
    assert all_gather(tree, None) is tree
    assert axis_index(None) == 0


@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_each_device_sees_its_share_and_all_agree(backend):
    traces = []

    def function(recipe, state, batch, key):
        traces.append(backend)
        x = batch["x"]  # [3] of [2, 3]
        everyone = all_gather(x, AXIS)
        own = jax.lax.dynamic_slice_in_dim(everyone, axis_index(AXIS) * len(x), len(x))
        state = state + recipe["lr"] * pmean(x.sum(), AXIS)
        return state, {"everyone": everyone, "astray": pmean(jnp.abs(own - x).sum(), AXIS), "key": key}

    devices = Devices(backend)
    step = devices.parallelize(function)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    batch = devices.put_batch({"x": x})
    state = devices.replicate(np.ones(4, np.float32))
    step = devices.compile(step, {"lr": np.float32(1)}, state, batch, np.int32(7))
    for rate in (1.0, 10.0):  # another number in a recipe is no other program
        before = np.array(state)
        state, metrics = step({"lr": np.float32(rate)}, donated := state, batch, np.int32(7))
        assert donated.is_deleted()
        assert_replicated((state, metrics))
        np.testing.assert_array_equal(state, before + rate * x.sum(1).mean())
        np.testing.assert_array_equal(metrics["everyone"], x.reshape(-1))
        assert (metrics["astray"], metrics["key"]) == (0, 7)
    assert len(traces) == 1


def test_devices_that_disagree_are_noticed():
    devices = Devices()
    copies = [jax.device_put(np.float32([1, value]), d) for value, d in zip((2, 3), devices.devices, strict=True)]
    split = jax.make_array_from_single_device_arrays((2,), NamedSharding(devices.mesh, P()), copies)
    with pytest.raises(AssertionError, match=r"devices disagree on \['ema'\]"):
        assert_replicated({"ema": split})
    np.testing.assert_array_equal(first_replica(split), [1, 2])
    assert_replicated(devices.replicate({"ema": jnp.float32([jnp.nan, 2])}))  # bits, not values


def test_processes_that_disagree_are_noticed(monkeypatch):
    assert_same_on_processes(7, "it")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for others, good in ((7, True), (8, False)):
        gather = lambda own, other=others: np.array([own, np.uint32(other)])  # noqa: E731
        monkeypatch.setattr(multihost_utils, "process_allgather", gather)
        with contextlib.nullcontext() if good else pytest.raises(AssertionError, match="processes disagree on it"):
            assert_same_on_processes(7, "it")


def test_one_process_is_primary_and_agrees_with_itself(tmp_path):
    assert is_primary_process()
    assert is_shared(tmp_path)
    assert broadcast({"eval/fid": 1 / 3}) == {"eval/fid": 1 / 3}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("jit",), "backend='jit': choose pmap or shard_map"),
        (("pmap", 2), "devices=2: give a list of JAX devices"),
        (("pmap", []), r"devices=\[\]: give a list of JAX devices"),
    ],
)
def test_what_are_no_devices(arguments, words):
    with pytest.raises(ConfigError, match=words):
        Devices(*arguments)
    with pytest.raises(ConfigError, match=r"^devices=2: give jaxgan\.core\.parallel\.Devices"):
        parallelize(tiny_recipe(), 2)
