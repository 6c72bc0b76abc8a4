"""Checkpoints: what goes in comes out bit for bit, and what is damaged is noticed."""

import asyncio
import logging as stdlib_logging
import os
import shutil
import signal
import subprocess
import sys
import threading

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging

from jaxgan.core import checkpoint
from jaxgan.core.checkpoint import CheckpointError, Checkpoints, all_finite, restore_generator
from jaxgan.core.parallel import Devices

CONFIG = {"loss": "hinge", "betas": [0.0, 0.9], "model": {"z_dim": 8}, "lr": 2e-4}


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: optax.OptState
    ema: dict


def create(step=0) -> State:
    """Several dtypes, a scalar, an awkward name, nested NamedTuples; all a function of `step`."""
    keys = jax.random.split(jax.random.key(step), 4)
    params = {
        "Conv_0": {"kernel": jax.random.normal(keys[0], (3, 3, 8, 16)), "bias": jnp.zeros(16)},
        "half": jax.random.normal(keys[1], (64, 9)).astype(jnp.bfloat16),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    opt_state = optimizer.init(params)
    _, opt_state = optimizer.update(jax.tree.map(jnp.ones_like, params), opt_state, params)
    spectral = {"Conv_0/kernel/u": jax.random.normal(keys[2], (1, 16))}
    extra = {"mask": jax.random.bernoulli(keys[3], 0.5, (5, 7)), "bytes": jnp.arange(11, dtype=jnp.uint8)}
    extra |= {"count": jnp.int32(step)}
    ema = {"params": jax.tree.map(lambda x: 2 * x, params), "batch_stats": spectral}
    return State(jnp.int32(step), {"net": params, "extra": extra}, opt_state, ema)


ABSTRACT = jax.eval_shape(create)


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), jax.tree_util.keystr(path)


def write(directory, *steps, **options):
    with Checkpoints(directory, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, create(step), CONFIG | {"saved": step}, {"score": step})
    return directory


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A directory with checkpoints of steps 10, 20 and 30; to be copied, not changed."""
    return write(tmp_path_factory.mktemp("three") / "checkpoints", 10, 20, 30, keep_last=3)


@pytest.fixture
def damaged(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run" / "checkpoints")


class Lines(stdlib_logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def warnings():
    """Messages that absl's logger lets through, of whoever sent them."""
    handler = Lines()
    logging.get_absl_logger().addHandler(handler)
    yield handler.lines
    logging.get_absl_logger().removeHandler(handler)


def restored_step(directory) -> int:
    with Checkpoints(directory) as checkpoints:
        state = checkpoints.restore(ABSTRACT)
    assert_same_bits(state, create(int(state.step)))
    return int(state.step)


def test_nothing_saved_yet(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(ABSTRACT) is None
        assert checkpoints.restore_config() is None
        assert checkpoints.latest_step() is None
        assert checkpoints.all_steps() == []


def test_round_trip_is_bitwise(three, warnings):
    with Checkpoints(three) as checkpoints:
        assert checkpoints.all_steps() == [10, 20, 30]
        assert checkpoints.latest_step() == 30
        assert checkpoints.restore_config() == CONFIG | {"saved": 30}
        state = checkpoints.restore(ABSTRACT)
    assert_same_bits(state, create(30))
    assert type(state.opt_state[1][0]) is optax.ScaleByAdamState
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
    assert not warnings


def test_relative_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("run/checkpoints", 1)
    assert restore_generator("run")[2] == 1


@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_saved_on_eight_devices_restored_on_one_and_back(tmp_path, backend):
    assert jax.device_count() == 8
    devices = Devices(backend)
    step = devices.parallelize(lambda state, batch, key: (state, {}))
    everywhere, _ = step(devices.replicate(create(4)), devices.put_batch(np.zeros((8, 2), np.float32)), jnp.int32(0))
    assert len(everywhere.ema["params"]["half"].sharding.device_set) == 8
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, everywhere, CONFIG)
        checkpoints.wait()
        one = jax.device_put(checkpoints.restore(ABSTRACT), jax.devices()[5])
        assert_same_bits(one, create(4))
        checkpoints.save(5, one.replace(step=jnp.int32(5)), CONFIG)
        checkpoints.wait()
        again = devices.replicate(checkpoints.restore(ABSTRACT))
    assert_same_bits(again, create(4).replace(step=np.int32(5)))
    assert len(again.ema["params"]["half"].sharding.device_set) == 8


def test_a_part_of_an_array_is_not_saved_as_the_whole(tmp_path):
    devices = Devices()
    part = devices.put_batch(np.zeros((8, 3), np.float32))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(AssertionError, match="not replicated"):
        checkpoints.save(1, create(1).replace(ema={"params": part}), CONFIG)


@pytest.mark.parametrize("placed", ["one", "replicated", "numpy"])
def test_donating_right_after_save_is_safe(tmp_path, placed):
    large = State(jnp.int32(1), {"w": jnp.arange(2_000_000.0)}, (), {"w": jnp.arange(1_000_000.0)})
    expected = jax.tree.map(np.array, large)
    if placed == "replicated":
        large = Devices().replicate(large)
    if placed == "numpy":
        large = jax.tree.map(np.array, large)
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, large, CONFIG)
        if placed == "numpy":
            for leaf in jax.tree.leaves(large):
                leaf[...] = -1
        else:
            jax.block_until_ready(overwrite(large))
            assert large.params["w"].is_deleted()
        checkpoints.wait()
        assert_same_bits(checkpoints.restore(jax.eval_shape(lambda: expected)), expected)


def test_changes_to_the_config_after_save_do_not_reach_the_disk(tmp_path, monkeypatch):
    begun, original = threading.Event(), checkpoint.ocp.JsonCheckpointHandler._save_fn

    async def late(*args):
        await asyncio.to_thread(begun.wait)
        return await original(*args)

    monkeypatch.setattr(checkpoint.ocp.JsonCheckpointHandler, "_save_fn", late)
    config = {"model": {"width": 1}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, create(1), config)
        config["model"]["width"] = 2
        begun.set()
        checkpoints.wait()
        assert checkpoints.restore_config() == {"model": {"width": 1}}


# Damage.


def data_files(path):
    return sorted(f for f in path.rglob("*") if f.is_file() and f.parent.name == "d" and f.stat().st_size)


def largest(path):
    return max((f for f in path.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def cut(file, size):
    os.truncate(file, size)


def empty_directory(path):
    shutil.rmtree(path)
    path.mkdir()


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


DAMAGE = {
    "data cut in half": lambda p: cut(largest(p / "state"), largest(p / "state").stat().st_size // 2),
    "data emptied": lambda p: cut(largest(p / "state"), 0),
    "data deleted": lambda p: largest(p / "state").unlink(),
    "ema data deleted": lambda p: largest(p / "ema").unlink(),
    "manifest cut": lambda p: cut(p / "state" / "manifest.ocdbt", 10),
    "manifest deleted": lambda p: (p / "ema" / "manifest.ocdbt").unlink(),
    "tree metadata deleted": lambda p: (p / "state" / "_METADATA").unlink(),
    "tree metadata cut": lambda p: cut(p / "state" / "_METADATA", 20),
    "state removed": lambda p: shutil.rmtree(p / "state"),
    "ema removed": lambda p: shutil.rmtree(p / "ema"),
    "config removed": lambda p: shutil.rmtree(p / "config"),
    "config cut": lambda p: cut(p / "config" / "metadata", 5),
    "config emptied": lambda p: cut(p / "config" / "metadata", 0),
    "config changed": lambda p: replace(p / "config" / "metadata", "hinge", "wgan!"),
    "meta removed": lambda p: shutil.rmtree(p / "meta"),
    "meta cut": lambda p: cut(p / "meta" / "metadata", 3),
    "meta emptied": lambda p: cut(p / "meta" / "metadata", 0),
    "meta changed": lambda p: replace(p / "meta" / "metadata", '"score": 30', '"score": 31'),
    "meta of another kind": lambda p: (p / "meta" / "metadata").write_text("[]"),
    "empty directory": empty_directory,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_falls_back_and_is_named_in_one_warning(damaged, warnings, kind):
    DAMAGE[kind](damaged / "30")
    before = sorted(damaged.rglob("*"))
    assert restored_step(damaged) == 20
    assert len(warnings) == 1
    assert "step 30 (" in warnings[0]
    assert "step 20 is used" in warnings[0]
    assert sorted(damaged.rglob("*")) == before  # nothing deleted, nothing moved


def test_a_flipped_bit_anywhere_in_the_arrays_is_noticed(damaged, warnings):
    """Every data file, several places: orbax itself restores most of these without a word."""
    files = [*data_files(damaged / "30" / "state"), *data_files(damaged / "30" / "ema")]
    assert len(files) >= 2
    rng = np.random.default_rng(0)
    for file in files:
        good = file.read_bytes()
        for place in rng.integers(len(good), size=3):
            bad = bytearray(good)
            bad[place] ^= 1 << rng.integers(8)
            file.write_bytes(bytes(bad))
            # A bit that no reader looks at may stay unnoticed; a wrong array may not.
            assert restored_step(damaged) in (20, 30), (file, place)
        file.write_bytes(good)
    assert warnings


@pytest.mark.parametrize("item", ["state", "ema"])
@pytest.mark.parametrize("change", ["one bit", "two elements swapped", "a block of zeros"])
def test_arrays_that_orbax_finds_valid_but_are_not_what_was_saved(tmp_path, warnings, monkeypatch, item, change):
    """The change is made between the checksums and the disk, so that the files themselves are flawless."""

    def corrupt(tree):
        leaf = np.array(tree["params"]["net"]["Conv_0"]["kernel"] if item == "state" else tree["params"]["half"])
        flat = leaf.reshape(-1)
        if change == "one bit":
            flat.view(np.uint8)[7] ^= 1
        elif change == "two elements swapped":
            flat[[3, 40]] = flat[[40, 3]]
        else:
            flat[16:48] = 0
        return leaf

    write(tmp_path, 1)
    original = checkpoint.ocp.args.PyTreeSave

    def save(tree):
        if item == "state" and isinstance(tree, State):
            net = tree.params["net"]
            net = net | {"Conv_0": net["Conv_0"] | {"kernel": corrupt(tree.__dict__)}}
            tree = tree.replace(params=tree.params | {"net": net})
        if item == "ema" and isinstance(tree, dict):
            tree = tree | {"params": tree["params"] | {"half": corrupt(tree)}}
        return original(tree)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.args, "PyTreeSave", save)
        write(tmp_path, 2)
    assert restored_step(tmp_path) == 1
    assert "1 of " in warnings[0]
    assert "arrays changed" in warnings[0]


def test_two_damaged_are_named_in_one_line(damaged, warnings):
    DAMAGE["data emptied"](damaged / "30")
    DAMAGE["meta cut"](damaged / "20")
    assert restored_step(damaged) == 10
    assert len(warnings) == 1
    assert "step 30 (" in warnings[0]
    assert "step 20 (" in warnings[0]


def test_all_damaged(damaged):
    for step in ("10", "20", "30"):
        DAMAGE["data emptied"](damaged / step)
    sign = r"every checkpoint in .*step 30 \(.*step 20 \(.*step 10 \("
    with Checkpoints(damaged) as checkpoints, pytest.raises(CheckpointError, match=sign):
        checkpoints.restore(ABSTRACT)
    assert sorted(p.name for p in damaged.iterdir()) == ["10", "20", "30"]


def test_another_model_is_no_damage(three, warnings):
    wider = ABSTRACT.replace(params=ABSTRACT.params | {"new": jax.ShapeDtypeStruct((3,), jnp.float32)})
    with Checkpoints(three) as checkpoints:
        with pytest.raises(CheckpointError, match=r"30 is of another model: .*absent there, float32\[3\] in this"):
            checkpoints.restore(wider)
        smaller = ABSTRACT.replace(step=jax.ShapeDtypeStruct((), jnp.int16))
        with pytest.raises(CheckpointError, match=r"step is int32\[\] there, int16\[\] in this run"):
            checkpoints.restore(smaller)
    assert not warnings


def test_training_goes_on_past_a_damaged_checkpoint(damaged, warnings):
    """The damaged one is renamed, not deleted, when it is in the way; twice for the same step works too."""
    for times in (1, 2):
        DAMAGE["data emptied"](damaged / "30")
        with Checkpoints(damaged, keep_last=2) as checkpoints:
            assert int(checkpoints.restore(ABSTRACT).step) == 20
            assert checkpoints.latest_step() == 20
            assert checkpoints.all_steps()[-1] == 20
            checkpoints.save(30, create(30), CONFIG)
            assert checkpoints.latest_step() == 30
        assert restored_step(damaged) == 30
        assert len([p for p in damaged.iterdir() if p.name.startswith("30.damaged")]) == times
    assert len(warnings) == 2


def test_a_step_before_the_damaged_one_counts_as_the_latest(damaged, warnings):
    DAMAGE["data emptied"](damaged / "30")
    with Checkpoints(damaged, keep_last=1) as checkpoints:
        assert int(checkpoints.restore(ABSTRACT).step) == 20
        checkpoints.save(25, create(25), CONFIG)
    assert sorted(p.name for p in damaged.iterdir()) == ["25", "30.damaged"]
    assert restored_step(damaged) == 25


# What to keep.


def test_keeps_the_last_every_kth_and_the_best(tmp_path):
    scores = {1: 5.0, 2: 9.0, 3: 1.0, 4: 1.0, 5: None, 6: float("nan"), 7: 0.0, 8: 3.0}
    with Checkpoints(tmp_path, keep_last=2, keep_every_steps=3, best_metric="eval/modes") as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, create(step), CONFIG, {} if score is None else {"eval/modes": score, "kl": 0.0})
            assert checkpoints.latest_step() == step
    assert Checkpoints(tmp_path).all_steps() == [2, 3, 6, 7, 8]


def test_best_is_remembered_by_the_next_start(tmp_path):
    options = dict(keep_last=1, best_metric="kl", best_mode="min")
    for step, score in {1: 0.5, 2: 0.1, 3: 0.7}.items():
        with Checkpoints(tmp_path, **options) as checkpoints:
            checkpoints.save(step, create(step), CONFIG, {"kl": score})
    assert Checkpoints(tmp_path).all_steps() == [2, 3]


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 3)])
def test_best_step_is_that_of_the_run_s_own_metric(tmp_path, mode, best):
    config = CONFIG | {"checkpoint": {"best_metric": "kl", "best_mode": mode}}
    with Checkpoints(tmp_path / "checkpoints", keep_last=4) as checkpoints:
        for step, score in {1: 0.5, 2: 0.1, 3: 0.7}.items():
            checkpoints.save(step, create(step), config, {"kl": score})
        checkpoints.save(4, create(4), config)  # not evaluated: no candidate
    directory, steps = checkpoint.find(tmp_path)
    assert (directory.name, steps) == ("checkpoints", [1, 2, 3, 4])
    assert checkpoint.best_step(directory, steps) == (best, f"best of 3 by kl ({mode})")
    assert checkpoint.find(directory / "2") == (directory, [2])
    with pytest.raises(CheckpointError, match="is rated: "):
        checkpoint.best_step(directory, [4])


def test_latest_stays_even_if_it_is_the_worst(tmp_path):
    with Checkpoints(tmp_path, keep_last=1, best_metric="kl", best_mode="min") as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, create(step), CONFIG, {"kl": 10.0 * step})
    assert Checkpoints(tmp_path).all_steps() == [1, 4]
    assert restored_step(tmp_path) == 4


def test_saving_backwards_or_twice_is_an_error(three):
    with Checkpoints(three) as checkpoints:
        for step in (30, 25):
            with pytest.raises(CheckpointError, match=f"cannot save step {step}: .* already holds step 30"):
                checkpoints.save(step, create(step), CONFIG)


# Accidents while writing.


def test_a_failing_disk_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot open"):
        Checkpoints(tmp_path / "file" / "checkpoints")
    checkpoints = Checkpoints(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot save [^\n]*$"):
        checkpoints.save(1, create(1), CONFIG)


KILLED = """
import os, sys, jax.numpy as jnp
from jaxgan.checkpoint import Checkpoints
from test_checkpoint import CONFIG, State, create
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, create(1), CONFIG)
checkpoints.wait()
large = create(2)
checkpoints.save(2, large.replace(params=large.params | {"w": jnp.arange(2e7)}), CONFIG)
print("saving", flush=True)
checkpoints.wait()
print("saved", flush=True)
"""


def test_kill_during_a_save(tmp_path, warnings):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == ""  # killed before it was done
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left[0] == "1"
    assert len(left) == 2, left
    assert "tmp" in left[1]
    assert restore_generator(tmp_path)[2] == 1
    with Checkpoints(tmp_path) as checkpoints:
        assert int(checkpoints.restore(ABSTRACT).step) == 1
        checkpoints.save(3, create(3), CONFIG)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "3"]
    assert restored_step(tmp_path) == 3
    assert not warnings


def test_an_error_in_training_is_not_hidden_by_one_in_saving(tmp_path, warnings, monkeypatch):
    def full(self):
        raise OSError("no space left")

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(type(checkpoints._manager), "close", full)
    with pytest.raises(ZeroDivisionError), checkpoints:
        raise ZeroDivisionError
    assert warnings == [f"cannot save to {tmp_path}: OSError: no space left"]
    with pytest.raises(CheckpointError, match="no space left"), checkpoints:
        pass


# The generator alone.


@pytest.mark.parametrize("path", ["run", "run/checkpoints", "run/checkpoints/30"])
def test_restore_generator(damaged, warnings, path):
    shutil.rmtree(damaged / "30" / "state")  # not needed
    config, variables, step = restore_generator(damaged.parent.parent / path)
    assert (config, step) == (CONFIG | {"saved": 30}, 30)
    assert_same_bits(variables, create(30).ema)
    assert {leaf.devices().pop() for leaf in jax.tree.leaves(variables)} == {jax.devices()[0]}
    assert not warnings


def test_restore_generator_of_a_chosen_step(damaged, tmp_path):
    assert restore_generator(damaged.parent, step=10)[2] == 10
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 11 in .*: there is 10, 20, 30"):
        restore_generator(damaged.parent, step=11)
    moved = shutil.copytree(damaged / "20", tmp_path / "to share")
    assert restore_generator(moved)[2] == 20


def test_restore_generator_of_a_damaged_run(damaged, warnings):
    DAMAGE["ema removed"](damaged / "30")
    assert restore_generator(damaged.parent)[2] == 20
    assert "step 30 (" in warnings[0]
    with pytest.raises(CheckpointError, match="damaged"):
        restore_generator(damaged.parent, step=30)
    with pytest.raises(CheckpointError, match="damaged"):
        restore_generator(damaged / "30")


def test_restore_generator_of_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .*: no numbered directory in it or in"):
            restore_generator(path)


def test_a_newer_format_is_not_misread(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxgan.checkpoint.FORMAT", 2)
    write(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 2; this jaxgan reads up to 1"):
        restore_generator(tmp_path)


def test_all_finite():
    tree = {"a": jnp.ones(3), "b": jnp.ones((2, 2), jnp.bfloat16), "n": jnp.int32(3), "m": np.array([True])}
    assert all_finite(tree)
    assert all_finite(Devices().replicate(tree))
    for name, value in (("a", jnp.inf), ("b", jnp.nan), ("b", -jnp.inf)):
        assert not all_finite(tree | {name: tree[name].at[-1].set(value)})
    assert all_finite({})


def test_what_orbax_logs_is_not_seen(tmp_path, warnings):
    before = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    try:
        logging.info("of ours")
        write(tmp_path, 1)
        restored_step(tmp_path)
    finally:
        logging.set_verbosity(before)
    assert warnings == ["of ours"]
