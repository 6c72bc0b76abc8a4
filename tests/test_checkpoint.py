"""Checkpoints: what goes in comes out bit for bit, and what is damaged is noticed."""

import asyncio
import gc
import json
import os
import shutil

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.core import checkpoint
from jaxgan.core.checkpoint import CheckpointError, Checkpoints, restore_items
from jaxgan.core.integrity import all_finite
from jaxgan.core.parallel import Devices
from tests.helpers import assert_same_bits, run_processes, start_python

RUN = {"config": {"loss": "hinge", "betas": [0.0, 0.9], "lr": 2e-4}, "data": {"channels": 3}}


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: optax.OptState
    running: dict


def create(step=0) -> dict:
    """Returns items as awkward as a run's, all a function of `step`.

    Several dtypes, a scalar, a name with slashes, NamedTuples, a dict without arrays inside an item and as an item.
    """
    keys = jax.random.split(jax.random.key(step), 3)
    params = {
        "Conv_0": {"kernel": jax.random.normal(keys[0], (3, 3, 8, 16)), "bias": jnp.zeros(16)},
        "half": jax.random.normal(keys[1], (64, 9)).astype(jnp.bfloat16),
    }
    extra = {"mask": jax.random.bernoulli(keys[2], 0.5, (5, 7)), "bytes": jnp.arange(11, dtype=jnp.uint8)}
    opt_state = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)).init(params)
    ema = {"params": jax.tree.map(lambda x: 2 * x, params), "batch_stats": {"Conv_0/kernel/u": jnp.full((1, 16), step)}}
    return {"state": State(jnp.int32(step), params | extra, opt_state, {}), "ema": ema, "posthoc_ema": {}}


ABSTRACT = jax.eval_shape(create)


def write(directory, *steps, **options):
    with Checkpoints(directory, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, create(step), RUN | {"saved": step}, {"score": step})
    return directory


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A directory with checkpoints of steps 10, 20 and 30; to be copied, not changed."""
    return write(tmp_path_factory.mktemp("three") / "checkpoints", 10, 20, 30, keep_last=3)


@pytest.fixture
def damaged(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run" / "checkpoints")


def restored_step(directory) -> int:
    """Returns the step that a run would resume from, after a comparison of every bit."""
    with Checkpoints(directory) as checkpoints:
        items = checkpoints.restore(ABSTRACT)
    step = int(items["state"].step)
    assert_same_bits(items, create(step))
    return step


def test_nothing_saved_yet(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(ABSTRACT) is None
        assert checkpoints.restore_run() is None
        assert checkpoints.latest_step() is None
        assert checkpoints.all_steps() == []


def test_round_trip_is_bitwise(three, caplog):
    with Checkpoints(three) as checkpoints:
        assert checkpoints.all_steps() == [10, 20, 30]
        assert checkpoints.latest_step() == 30
        assert checkpoints.restore_run() == RUN | {"saved": 30}
        items = checkpoints.restore(ABSTRACT)
    assert_same_bits(items, create(30))
    assert type(items["state"].opt_state[1][0]) is optax.ScaleByAdamState
    assert items["posthoc_ema"] == items["state"].running == {}
    assert not (three / "30" / "posthoc_ema").exists()
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(items))
    assert not caplog.messages


def test_relative_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("run/checkpoints", 1)
    assert restore_items("run", None, [])[2] == 1


@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_saved_on_two_devices_restored_on_one_and_back(tmp_path, backend):
    devices = Devices(backend)
    step = devices.parallelize(lambda recipe, state, batch, key: (state, {}))
    batch = devices.put_batch(np.zeros((2, 2), np.float32))
    everywhere, _ = step({}, devices.replicate(create(4)), batch, jnp.int32(0))
    assert len(everywhere["ema"]["params"]["half"].sharding.device_set) == 2
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, everywhere, RUN)
        checkpoints.wait()
        one = jax.device_put(checkpoints.restore(ABSTRACT), jax.devices()[1])
        assert_same_bits(one, create(4))
        checkpoints.save(5, one, RUN)
        checkpoints.wait()
        again = devices.replicate(checkpoints.restore(ABSTRACT))
    assert_same_bits(again, create(4))


def test_a_part_of_an_array_is_not_saved_as_the_whole(tmp_path):
    part = Devices().put_batch(np.zeros((2, 3), np.float32))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(AssertionError, match="not replicated"):
        checkpoints.save(1, {"ema": {"params": part}}, RUN)


@pytest.mark.parametrize("placed", ["one", "replicated", "numpy"])
def test_buffers_and_run_may_change_right_after_save(tmp_path, placed):
    large = {"state": {"w": jnp.arange(2_000_000.0)}, "ema": {"w": jnp.arange(1_000_000.0)}}
    expected = jax.tree.map(np.array, large)
    run = {"config": {"width": 1}}
    if placed == "replicated":
        large = Devices().replicate(large)
    if placed == "numpy":
        large = jax.tree.map(np.array, large)
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, large, run)
        run["config"]["width"] = 2
        if placed == "numpy":
            for leaf in jax.tree.leaves(large):
                leaf[...] = -1
        else:
            jax.block_until_ready(overwrite(large))
            assert large["state"]["w"].is_deleted()
        checkpoints.wait()
        assert_same_bits(checkpoints.restore(jax.eval_shape(lambda: expected)), expected)
        assert checkpoints.restore_run() == {"config": {"width": 1}}


# Damage.


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
    "run changed": lambda p: replace(p / "meta" / "metadata", "hinge", "wgan!"),
    "meta removed": lambda p: shutil.rmtree(p / "meta"),
    "meta cut": lambda p: cut(p / "meta" / "metadata", 3),
    "meta emptied": lambda p: cut(p / "meta" / "metadata", 0),
    "metric changed": lambda p: replace(p / "meta" / "metadata", '"score": 30', '"score": 31'),
    "checksum changed": lambda p: replace(p / "meta" / "metadata", '"crc32": ', '"crc32": 1'),
    "meta of another kind": lambda p: (p / "meta" / "metadata").write_text("[]"),
    "empty directory": empty_directory,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_falls_back_and_is_named_in_one_warning(damaged, caplog, kind, capfd):
    DAMAGE[kind](damaged / "30")
    before = sorted(damaged.rglob("*"))
    assert restored_step(damaged) == 20
    (warning,) = (message for message in caplog.messages if message.startswith("damaged"))
    assert "step 30 (" in warning
    assert "step 20 is used" in warning
    assert "\n" not in warning
    assert "Traceback" not in capfd.readouterr().err
    assert sorted(damaged.rglob("*")) == before  # nothing deleted, nothing moved


def test_a_flipped_bit_anywhere_in_the_arrays_is_noticed(damaged, caplog):
    """Every data file, several places: orbax itself restores most of these without a word."""
    files = sorted(f for f in (damaged / "30").rglob("d/*") if f.stat().st_size)
    assert len(files) >= 2
    rng = np.random.default_rng(0)
    for file in files:
        good = file.read_bytes()
        for place in rng.integers(len(good), size=2):
            bad = bytearray(good)
            bad[place] ^= 1 << rng.integers(8)
            file.write_bytes(bytes(bad))
            # A bit that no reader looks at may stay unnoticed; a wrong array may not.
            assert restored_step(damaged) in (20, 30), (file, place)
        file.write_bytes(good)
    assert caplog.messages


def flip_a_bit(array):
    array.view(np.uint8)[7] ^= 1


def swap_two_elements(array):
    array[[3, 40]] = array[[40, 3]]


def clear_a_block(array):
    array[16:48] = 0


@pytest.mark.parametrize("change", [flip_a_bit, swap_two_elements, clear_a_block])
def test_flawless_files_of_arrays_that_are_not_what_was_saved(tmp_path, caplog, change):
    """The files are those of another checkpoint, so that nothing but the fingerprint can tell."""
    items = jax.tree.map(np.array, create(2))
    change(items["ema"]["params"]["half"].reshape(-1))
    with Checkpoints(tmp_path / "other") as checkpoints:
        checkpoints.save(2, items, RUN)
    write(tmp_path / "run", 1, 2)
    shutil.rmtree(tmp_path / "run" / "2" / "ema")
    shutil.copytree(tmp_path / "other" / "2" / "ema", tmp_path / "run" / "2" / "ema")
    assert restored_step(tmp_path / "run") == 1
    assert "1 of 4 arrays changed, such as ['params']['half']" in caplog.messages[0]


def test_two_damaged_are_named_in_one_line(damaged, caplog):
    DAMAGE["data emptied"](damaged / "30")
    DAMAGE["meta cut"](damaged / "20")
    assert restored_step(damaged) == 10
    assert len(caplog.messages) == 1
    assert "step 30 (" in caplog.messages[0]
    assert "step 20 (" in caplog.messages[0]


def test_all_damaged(damaged):
    for step in ("10", "20", "30"):
        DAMAGE["data emptied"](damaged / step)
    sign = r"every checkpoint in .*step 30 \(.*step 20 \(.*step 10 \("
    with Checkpoints(damaged) as checkpoints, pytest.raises(CheckpointError, match=sign):
        checkpoints.restore(ABSTRACT)
    assert sorted(p.name for p in damaged.iterdir()) == ["10", "20", "30"]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"new": {"w": jax.ShapeDtypeStruct((3,), jnp.float32)}}, r"new\['w'\] is absent there, float32\[3\] in this"),
        (
            {"state": ABSTRACT["state"].replace(step=jax.ShapeDtypeStruct((), jnp.int16))},
            r"int32\[\] there, int16\[\] in",
        ),
        ({"ema": {}}, r"ema.* is .* there, absent in this run"),
    ],
)
def test_another_model_is_no_damage(three, caplog, items, message):
    with (
        Checkpoints(three) as checkpoints,
        pytest.raises(CheckpointError, match=f"30 is of another model: .*{message}"),
    ):
        checkpoints.restore(ABSTRACT | items)
    assert not caplog.messages


def test_training_goes_on_past_a_damaged_checkpoint(damaged, caplog):
    """The damaged one is renamed, not deleted, when it is in the way; twice for the same step works too."""
    for times in (1, 2):
        DAMAGE["data emptied"](damaged / "30")
        with Checkpoints(damaged, keep_last=2) as checkpoints:
            assert checkpoints.restore(ABSTRACT)["state"].step == 20
            assert checkpoints.latest_step() == 20
            assert checkpoints.all_steps()[-1] == 20
            checkpoints.save(30, create(30), RUN)
            assert checkpoints.latest_step() == 30
        assert restored_step(damaged) == 30
        assert len([p for p in damaged.iterdir() if p.name.startswith("30.damaged")]) == times
    assert len(caplog.messages) == 2


def test_a_step_before_the_damaged_one_counts_as_the_latest(damaged):
    DAMAGE["data emptied"](damaged / "30")
    with Checkpoints(damaged, keep_last=1) as checkpoints:
        assert checkpoints.restore(ABSTRACT)["state"].step == 20
        checkpoints.save(25, create(25), RUN)
    assert sorted(p.name for p in damaged.iterdir()) == ["25", "30.damaged"]
    assert restored_step(damaged) == 25


# What to keep.

SMALL = {"ema": {"w": np.zeros(1)}}


def test_keeps_the_last_every_kth_and_the_best(tmp_path):
    scores = {1: 5.0, 2: 9.0, 3: 1.0, 4: 1.0, 5: None, 6: float("nan"), 7: 0.0, 8: 3.0}
    with Checkpoints(tmp_path, keep_last=2, keep_every_steps=3, best_metric="eval/modes") as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, SMALL, RUN, {} if score is None else {"eval/modes": score, "kl": 0.0})
            assert checkpoints.latest_step() == step
    assert Checkpoints(tmp_path).all_steps() == [2, 3, 6, 7, 8]


def test_best_is_remembered_by_the_next_start(tmp_path):
    for step, score in {1: 0.5, 2: 0.1, 3: 0.7}.items():
        with Checkpoints(tmp_path, keep_last=1, best_metric="kl", higher_is_better=False) as checkpoints:
            checkpoints.save(step, SMALL, RUN, {"kl": score})
    assert Checkpoints(tmp_path).all_steps() == [2, 3]


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, 3), (False, 5)])
def test_best_step(tmp_path, higher_is_better, best):
    options = dict(keep_last=5, best_metric="kl", higher_is_better=higher_is_better)
    with Checkpoints(tmp_path / "checkpoints", **options) as checkpoints:
        for step, score in {1: 0.5, 2: 0.1, 3: 0.7, 5: 0.1}.items():  # of equals the later
            checkpoints.save(step, SMALL, RUN)
            checkpoints.rate(step, {"kl": score})  # after the save, so that no score can prevent it
        checkpoints.save(6, SMALL, RUN)  # not evaluated: no candidate
    directory, steps = checkpoint.find(tmp_path)
    assert (directory.name, steps) == ("checkpoints", [1, 2, 3, 5, 6])
    assert checkpoint.find(directory / "2") == (directory, [2])
    assert checkpoint.best_step(tmp_path) == (best, "kl")
    DAMAGE["meta cut"](directory / "5")
    assert checkpoint.best_step(directory) == (3 if higher_is_better else 2, "kl")
    (directory / "scores.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* has the score 'kl'"):
        checkpoint.best_step(directory)


def test_a_run_without_a_best(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, SMALL, RUN)
    with pytest.raises(CheckpointError, match=r"has no config\.checkpoint\.best_metric to say which is the best"):
        checkpoint.best_step(tmp_path)


def test_latest_stays_even_if_it_is_the_worst(tmp_path):
    with Checkpoints(tmp_path, keep_last=1, best_metric="kl", higher_is_better=False) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, SMALL, RUN, {"kl": 10.0 * step})
    assert Checkpoints(tmp_path).all_steps() == [1, 4]


def test_saving_backwards_or_twice_is_an_error(three):
    with Checkpoints(three) as checkpoints:
        for step in (30, 25):
            with pytest.raises(CheckpointError, match=f"cannot save step {step}: .* already holds step 30"):
                checkpoints.save(step, create(step), RUN)


# Accidents while writing.


def test_a_failing_disk_is_one_line(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot open [^\n]*$"):
        Checkpoints(tmp_path / "file" / "checkpoints")
    checkpoints = Checkpoints(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot save [^\n]*$"):
        checkpoints.save(1, SMALL, RUN)
    assert not caplog.messages


KILLED = """
import sys, numpy as np
from jaxgan.core.checkpoint import Checkpoints
from tests.test_checkpoint import RUN, create
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, create(1), RUN)
checkpoints.wait()
checkpoints.save(2, create(2) | {"large": {"w": np.random.default_rng(0).normal(size=10_000_000)}}, RUN)
print("saving", flush=True)
checkpoints.wait()
print("saved", flush=True)
"""


@pytest.mark.slow
def test_kill_during_a_save(tmp_path, caplog):
    with start_python("-c", KILLED, str(tmp_path)) as process:
        assert process.stdout.readline() == "saving\n"
        process.kill()
        assert process.stdout.read() == ""  # killed before it was done
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left[0] == "1"
    assert len(left) == 2, left
    assert "tmp" in left[1]
    assert restore_items(tmp_path, None, [])[2] == 1
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(ABSTRACT)["state"].step == 1
        checkpoints.save(3, create(3), RUN)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "3"]
    assert restored_step(tmp_path) == 3
    assert not caplog.messages


def test_an_error_in_training_is_not_hidden_by_one_in_saving(tmp_path, caplog, monkeypatch):
    def full(self):
        raise CheckpointError("no space left")

    monkeypatch.setattr(Checkpoints, "close", full)
    with pytest.raises(ZeroDivisionError), Checkpoints(tmp_path):
        raise ZeroDivisionError
    assert caplog.messages == ["no space left"]
    with pytest.raises(CheckpointError, match="no space left"), Checkpoints(tmp_path):
        pass
    with pytest.raises(CheckpointError, match="cannot save"), Checkpoints(tmp_path):
        raise CheckpointError("cannot save")
    assert caplog.messages == ["no space left"]  # one line is enough


def test_asyncio_says_nothing_of_the_writes_that_fail_after_the_first(tmp_path, caplog):
    """Nothing else is kept from its log."""
    full = ValueError('RESOURCE_EXHAUSTED: Error writing "w/0" in "/disk/1.orbax-checkpoint-tmp/state/"')
    for error, messages in ((full, []), (ValueError("of someone else's"), ["Future exception was never retrieved"])):
        loop = asyncio.new_event_loop()
        loop.create_future().set_exception(error)
        gc.collect()
        loop.close()
        assert [message.partition("\n")[0] for message in caplog.messages] == messages


# Single items.


@pytest.mark.parametrize("path", ["run", "run/checkpoints", "run/checkpoints/30"])
def test_items_are_read_without_the_others(damaged, caplog, path):
    shutil.rmtree(damaged / "30" / "state")  # not needed
    items, run, step = restore_items(damaged.parent.parent / path, None, ["ema", "posthoc_ema"])
    assert (run, step) == (RUN | {"saved": 30}, 30)
    assert_same_bits(items, {"ema": create(30)["ema"], "posthoc_ema": {}})
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(items))
    assert not caplog.messages


def test_items_of_a_chosen_step(damaged, tmp_path):
    assert restore_items(damaged.parent, 10, ["ema"])[2] == 10
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 11 in .*: there is 10, 20, 30"):
        restore_items(damaged.parent, 11, ["ema"])
    moved = shutil.copytree(damaged / "20", tmp_path / "to share")
    assert restore_items(moved, None, ["ema"])[2] == 20
    with pytest.raises(CheckpointError, match="has no item 'emma': there is ema, posthoc_ema, state"):
        restore_items(moved, None, ["emma"])
    with pytest.raises(CheckpointError, match=r"item 'state' of .* has \.\w+.*, no dicts alone"):
        restore_items(moved, None, ["state"])
    with pytest.raises(CheckpointError, match=r"no checkpoint of step '10' in"):
        restore_items(damaged.parent, "10", ["ema"])
    with pytest.raises(CheckpointError, match="no checkpoint in "):
        restore_items(tmp_path / "missing", None, [])


def test_items_of_a_damaged_run(damaged, caplog):
    DAMAGE["ema removed"](damaged / "30")
    assert restore_items(damaged.parent, None, ["ema"])[2] == 20
    assert "step 30 (" in caplog.messages[0]
    with pytest.raises(CheckpointError, match="damaged"):
        restore_items(damaged.parent, 30, ["ema"])
    with pytest.raises(CheckpointError, match="damaged"):
        restore_items(damaged / "30", None, ["ema"])
    DAMAGE["run changed"](damaged / "20")
    with pytest.raises(CheckpointError, match="damaged"):
        restore_items(damaged / "20", None, [])


def test_items_of_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .*: no numbered directory in it or in"):
            restore_items(path, None, ["ema"])


def test_a_newer_format_is_not_misread(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    write(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 2; this jaxgan reads up to 1"):
        restore_items(tmp_path, None, ["ema"])


# Two processes.

TOGETHER = """
import json, pathlib, sys
import orbax.checkpoint as ocp
from jaxgan.core.checkpoint import CheckpointError, Checkpoints
from jaxgan.core.parallel import Devices, is_primary_process
from tests.test_checkpoint import ABSTRACT, RUN, create

directory, results = pathlib.Path(sys.argv[1]), []
try:
    Checkpoints(directory / str(jax.process_index()))
except CheckpointError as error:
    results.append(str(error))

with Checkpoints(directory / "shared") as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, Devices().replicate(create(step)), RUN)
with Checkpoints(directory / "shared") as checkpoints:
    if not is_primary_process():  # whose disk fails
        read = ocp.JsonCheckpointHandler.restore

        def fail(self, path, **arguments):
            if path.parent.name == "2":
                raise OSError("no such device")
            return read(self, path, **arguments)

        ocp.JsonCheckpointHandler.restore = fail
    results.append(int(checkpoints.restore(ABSTRACT)["state"].step))
    checkpoints.save(3, Devices().replicate(create(3)), RUN)
    checkpoints.wait()
    results.append(int(checkpoints.restore(ABSTRACT)["state"].step))
print(json.dumps(results))
"""


@pytest.mark.slow
def test_two_processes_agree(tmp_path):
    """They notice that their directories differ, and neither uses what one of them cannot read."""
    for output in run_processes(TOGETHER, str(tmp_path)):
        error, *steps = json.loads(output.splitlines()[-1])
        assert "is not the same directory on all processes: give a shared one" in error
        assert steps == [1, 3]
    assert sorted(p.name for p in (tmp_path / "shared").iterdir()) == ["1", "2.damaged", "3"]
    assert restored_step(tmp_path / "shared") == 3


def test_all_finite():
    tree = {"a": jnp.ones(3), "b": jnp.ones((2, 2), jnp.bfloat16), "n": jnp.int32(3), "m": np.array([True])}
    assert all_finite(tree)
    assert all_finite(Devices().replicate(tree))
    for name, value in (("a", jnp.inf), ("b", jnp.nan), ("b", -jnp.inf)):
        assert not all_finite(tree | {name: tree[name].at[-1].set(value)})
    assert all_finite({})
