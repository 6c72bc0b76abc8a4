"""The training loop on tiny nets: exact resume after real kills, hooks, divergence, what a run leaves behind."""

import dataclasses
import json
import math
import os
import pathlib
import random
import shutil
import signal
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from jaxgan.core import checkpoint
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import make_directories, sole_user
from jaxgan.data import ArrayDataset, DataSpec
from jaxgan.evaluation import NETWORKS, Evaluator
from jaxgan.evaluation.networks import FeatureNetwork
from jaxgan.gan.recipe import recipe_from_config
from jaxgan.sampling.load import load
from jaxgan.settings import default_config, read
from jaxgan.training import loop as training_loop
from jaxgan.training import standard
from jaxgan.training.console import Progress, Throughput
from jaxgan.training.hooks import HookCaller, checked, every
from jaxgan.training.log import MetricsLog, read_metrics
from jaxgan.training.loop import note_damage, train
from jaxgan.training.resume import changes, changes_on_resume, restore_or_init
from jaxgan.training.run import Run, TrainingDiverged
from jaxgan.training.standard import save_checkpoint
from tests.helpers import assert_same_bits, finish, run_processes, start_python, without_curves

pytestmark = pytest.mark.usefixtures("no_curves")  # the runs of a whole module draw theirs

STEPS = 12
KIMG = 16 / 1e3  # of one step


def tiny_config():
    """Returns a run of 12 steps of 16 images: a log line every 2 steps, a checkpoint every 4, all else every 6."""
    config = default_config()
    config.data.image_size = 8
    config.model.name, config.model.z_dim = "mlp", 8
    config.model.g.channels, config.model.d.channels = (16, 16), (8, 8)
    config.batch_size, config.train_kimg = 16, STEPS * KIMG
    config.penalty.r1.weight, config.penalty.r1.interval = 1.0, 2
    config.log.every_kimg, config.log.trackers = 2 * KIMG, ()
    config.checkpoint.every_kimg = 4 * KIMG
    config.sample.every_kimg = config.eval.every_kimg = config.health.every_kimg = 6 * KIMG
    config.sample.grid = 2
    return config


def grid_name(step):
    return f"{step * KIMG:010.3f}kimg.png"


def images():
    """Returns 40 images of two classes, so few that the run is in its fifth epoch at the end."""
    rng = np.random.default_rng(0)
    return ArrayDataset(rng.integers(0, 256, (40, 8, 8, 3), np.uint8), rng.integers(0, 2, 40), 2)


def scored_config(*metrics):
    """Returns the same run with metrics, and pictures at its end only."""
    config = tiny_config()
    config.sample.every_kimg = 0.0
    config.eval.metrics, config.eval.num_samples = metrics, 64
    return config


@pytest.fixture
def scores(monkeypatch):
    """The scores that evaluations give by the step, in the order of the metrics; no network is asked."""

    def apply(variables, images):
        return dict.fromkeys(("pool", "logits"), images[:, 0, :, 0].astype(jnp.float32))

    given, stand_in = {}, FeatureNetwork("stand-in", apply, {}, "no weights", "none")
    monkeypatch.setitem(NETWORKS, "inception", lambda file: stand_in)
    monkeypatch.setattr(Evaluator, "evaluate", lambda self, g, failed: dict(zip(self.metrics, given[g.step])))
    return given


def lines(workdir):
    """Returns the lines of metrics.jsonl without what a clock wrote."""
    path = workdir / "metrics.jsonl"
    records = read_metrics(path) if path.exists() else []
    return [{k: v for k, v in record.items() if not k.startswith("perf/")} for record in records]


def saved_steps(workdir):
    return checkpoint.find(workdir)[1]


def final_state(workdir):
    recipe = recipe_from_config(tiny_config(), DataSpec.from_dataset(images()))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = restore_or_init(checkpoints, recipe, jax.random.key(0))
    assert state.step == STEPS
    return state


def assert_close(a, b):
    """Raises unless the EMA generators of two runs are equal up to rounding.

    The gradient of a bias before batch norm is nothing but rounding, and Adam takes whole steps along it.
    """
    a, b = final_state(a).ema, final_state(b).ema
    assert optax.tree.norm(jax.tree.map(np.subtract, a, b)) <= 5e-3 * optax.tree.norm(a)


@pytest.fixture(scope="module")
def calls():
    """What the hooks of the reference run were called with."""
    return {"plain": [], "own": []}


@pytest.fixture(scope="module")
def reference(tmp_path_factory, calls):
    """A run that nobody disturbed, with hooks of a user."""
    workdir = tmp_path_factory.mktemp("reference")

    def plain(step, state, metrics, generator):
        calls["plain"].append((step, int(state.step), generator.step, len(lines(workdir))))
        return {"mine/mean_pixel": generator.sample(2).mean()}

    def own(step, state, metrics, generator):
        calls["own"].append((step, dict(metrics)))

    assert train(tiny_config(), workdir, images(), hooks=[plain, every(5 * KIMG, own)]) == 0
    return workdir


def test_what_a_run_leaves_behind(reference):
    record = lines(reference)
    assert [line["step"] for line in record] == [2, 4, 5, 6, 8, 10, 12]
    assert record[0]["kimg"] == pytest.approx(2 * KIMG)
    for name in (
        "loss/d", "loss/g", "logits/real", "logits/fake", "acc/real", "acc/fake", "lr/g", "lr/d",
        *(f"norm/{what}_{net}" for what in ("grad", "param", "update") for net in "gd"),
    ):  # fmt: skip
        assert all(name in line for line in record), name
    assert [line["step"] for line in record if "health/variety" in line] == [6, 12]
    assert [line["step"] for line in record if "penalty/r1" not in line] == [5]  # where it was not applied
    assert json.loads((reference / "config.json").read_text())["model"]["name"] == "mlp"
    assert json.loads((reference / "data.json").read_text())["num_images"] == 40
    assert sorted(p.name for p in (reference / "samples").iterdir()) == [
        *(grid_name(step) for step in (0, 6, 12)),
        "reals.png",
    ]
    with Image.open(reference / "curves.png") as curves:
        assert curves.size[0] > 300
    report = (reference / "report.html").read_text()
    for written in ('"status":"finished"', '"discriminator"', "GFLOP an image", "cpu in 1 process", "mine/mean_pixel"):
        assert written in report
    assert saved_steps(reference) == [8, 12]
    generator = load(reference)
    assert (generator.step, generator.data.num_classes) == (STEPS, 2)
    assert generator.sample(3).shape == (3, 8, 8, 3)


def test_hooks_are_called_at_their_cadence_and_their_values_are_logged(reference, calls):
    record = lines(reference)
    assert [call[:3] for call in calls["plain"]] == [(line["step"],) * 3 for line in record]  # at every line
    assert [written for *_, written in calls["plain"]] == list(range(len(record)))  # before it: the line comes last
    assert all("mine/mean_pixel" in line for line in record)
    assert [step for step, _ in calls["own"]] == [5, 10, 12]
    for step, metrics in calls["own"]:  # they see the metrics of the step, and what the hooks before them returned
        (line,) = (line for line in record if line["step"] == step)
        assert metrics == {name: value for name, value in line.items() if name != "step"}


def test_a_grid_of_reals_has_a_class_in_each_column(reference):
    dataset = ArrayDataset(np.arange(1, 6, dtype=np.uint8)[:, None, None, None].repeat(3, 3), np.array([0, 0, 0, 1, 1]))
    assert standard.real_grid(dataset, 3, 2)[:, 0, 0, 0].tolist() == [1, 4, 1, 2, 5, 2, 3, 4, 3]
    assert standard.real_grid(dataset, 3, 3)[:, 0, 0, 0].tolist() == [1, 4, 0, 2, 5, 0, 3, 4, 0]  # none of class 2
    assert standard.real_grid(dataset, 2, 0)[:, 0, 0, 0].tolist() == [1, 2, 3, 5]
    assert (reference / "samples/reals.png").exists()


def test_seconds_grow_over_the_starts_of_a_run(reference):
    seconds = [line["perf/seconds"] for line in read_metrics(reference / "metrics.jsonl")]
    assert seconds[0] > 0
    assert seconds == sorted(seconds)


def test_the_seconds_of_a_run_begin_before_its_data_are_opened(tmp_path, monkeypatch):
    before = []

    def open_data(*args):
        time.sleep(0.3)
        return opened(*args)

    def throughput(total_images, seconds):
        before.append(seconds)
        return Throughput(total_images, seconds)

    opened = training_loop.open_data
    monkeypatch.setattr(training_loop, "open_data", open_data)
    monkeypatch.setattr(training_loop, "Throughput", throughput)
    config = tiny_config()
    config.train_kimg = 2 * KIMG
    assert train(config, tmp_path, images()) == 0
    assert 0.3 <= before[0] < 60


def test_a_finished_run_starts_and_ends_at_once(reference, capsys):
    before = lines(reference)
    assert train(tiny_config(), reference, images()) == 0
    assert "resumed from step 12" in capsys.readouterr().out
    assert lines(reference) == before


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that nobody disturbed, without hooks and curves."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        without_curves(patch)
        assert train(tiny_config(), workdir, images()) == 0
    return workdir


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_the_next_start_goes_on(tmp_path, undisturbed, number, capsys):
    def interrupt(step, state, metrics, generator):
        os.kill(os.getpid(), number)

    assert train(tiny_config(), tmp_path, images(), hooks=[every(5 * KIMG, interrupt)]) == 128 + number
    output = capsys.readouterr().out
    assert f"stopped by {number.name}; saved step 5, run again to go on" in output
    assert f"{number.name}: the state is saved as soon as it can be" in output
    assert saved_steps(tmp_path) == [4, 5]
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]  # what is due at step 5 is left to the next start
    assert train(tiny_config(), tmp_path, images()) == 0
    assert lines(tmp_path) == lines(undisturbed)
    assert_same_bits(final_state(tmp_path), final_state(undisturbed))


@pytest.mark.parametrize("to", ["the process", "another thread"])
def test_a_signal_is_answered_while_something_takes_long(to, tmp_path, undisturbed):
    """Here in a hook; the same holds for evaluation, pictures and the wait for a batch."""
    times = []

    def send():
        times.append(time.monotonic())
        if to == "the process":
            os.kill(os.getpid(), signal.SIGTERM)
        else:  # as the system may choose
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def long(step, state, metrics, generator):
        threading.Timer(0.1, send).start()
        try:
            time.sleep(30)
        finally:
            times.append(time.monotonic())

    assert train(tiny_config(), tmp_path, images(), hooks=[every(6 * KIMG, long)]) == 143
    came, answered = times
    assert answered - came < 2
    assert saved_steps(tmp_path) == [4, 6]
    assert train(tiny_config(), tmp_path, images()) == 0
    assert lines(tmp_path) == lines(undisturbed)


def test_a_signal_in_a_finaliser_is_not_lost(tmp_path):
    """Python prints an exception that is raised there, and goes on."""

    class Finalised:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)  # the handler runs here

    def unlucky(step, state, metrics, generator):
        made = Finalised()
        del made
        time.sleep(30)

    began = time.monotonic()
    assert train(tiny_config(), tmp_path, images(), hooks=[every(6 * KIMG, unlucky)]) == 143
    assert time.monotonic() - began < 25


# Pictures change nothing that is compared, and take a while in a process of its own.
START = """
import sys
from tests.test_train import *
config = tiny_config()
config.sample.every_kimg = 0.0
sys.exit(train(config, sys.argv[1], images()))
"""


@pytest.mark.slow
def test_kill_9_at_a_random_moment_changes_nothing(tmp_path, undisturbed):
    """The kill comes after a random number of lines, so also during a save; then on, until the run is done."""
    rng = random.Random(0)
    process = start_python("-c", START, str(tmp_path), devices=2)
    target = rng.randint(2, 5)
    while process.poll() is None and len(lines(tmp_path)) < target:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.05)
    process.kill()
    finish(process, -signal.SIGKILL)
    assert train(tiny_config(), tmp_path, images()) == 0
    assert lines(tmp_path) == lines(undisturbed)
    assert_same_bits(final_state(tmp_path), final_state(undisturbed))


PREEMPT = """
import sys
from jaxgan.training import resume
from tests.test_train import *
def preempt(step, state, metrics, generator):  # a scheduler takes one machine away
    if jax.process_index() == 1 and step == 6:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1.5)  # JAX looks for a signal once a second
if jax.process_index() == 1:  # its CPU makes other numbers of the key
    resume.init_state = lambda *args, right=resume.init_state: jax.tree.map(lambda x: x + 1, right(*args))
config = tiny_config()
config.sample.every_kimg = 0.0
assert train(config, sys.argv[1], images(), hooks=[every(6 * KIMG, preempt)]) == 143
"""


@pytest.mark.slow
def test_two_processes_stop_together_and_agree_with_one(tmp_path, undisturbed):
    outputs = run_processes(PREEMPT, str(tmp_path))
    assert "stopped by SIGTERM; saved step" in outputs[0]
    assert "stopped by" not in outputs[1]
    assert train(tiny_config(), tmp_path, images()) == 0  # what two processes saved, one goes on with
    assert [line["step"] for line in lines(tmp_path)] == [line["step"] for line in lines(undisturbed)]
    assert_close(undisturbed, tmp_path)


@pytest.mark.slow
def test_steps_per_dispatch_and_back_end_do_not_change_the_run(tmp_path, undisturbed):
    config = tiny_config()
    config.steps_per_dispatch, config.parallel = 2, "shard_map"
    train(config, tmp_path, images())
    assert [line["step"] for line in lines(tmp_path)] == [line["step"] for line in lines(undisturbed)]
    assert_close(undisturbed, tmp_path)


def test_divergence_stops_before_any_checkpoint(tmp_path):
    config = tiny_config()
    config.optim_d.lr = config.optim_g.lr = 1e30
    with pytest.raises(RunFailed, match=r"between step 0 and step 2; there is no checkpoint yet"):
        train(config, tmp_path, images())
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()]


def test_a_state_that_is_not_finite_is_never_saved():
    """No metric shows that only the average is broken."""
    run = types.SimpleNamespace(saved=4, config=tiny_config())
    state = {"params": jnp.ones(3), "ema": jnp.array([1.0, jnp.nan])}
    with pytest.raises(RunFailed, match="not finite, between step 4 and step 8; the checkpoint of step 4 is good"):
        save_checkpoint(run, 8, state, {})


@pytest.mark.parametrize(("metric", "best"), [("eval/is", 4), ("eval/fid", 8)])
def test_the_best_and_those_to_keep_are_saved_whatever_the_cadence(tmp_path, scores, metric, best):
    """A larger Inception Score is better, and so is a smaller distance; nobody has to say which."""
    scores |= {4: (9.0, 3.0), 8: (5.0, 1.0), 12: (7.0, 2.0)}
    config = scored_config("is", "fid")
    config.checkpoint.every_kimg, config.checkpoint.keep_last = 0.0, 1
    config.checkpoint.keep_every_kimg, config.eval.every_kimg = 5 * KIMG, 4 * KIMG
    config.checkpoint.best_metric = metric
    train(config, tmp_path, images())
    assert saved_steps(tmp_path) == sorted({5, 10, 12, best})


def test_a_named_data_set_is_evaluated_and_checked_for_overfitting(tmp_path):
    config = scored_config("modes")
    config.data.name = "stacked_digits"  # which has a held-out split
    train(config, tmp_path)
    assert {"eval/modes", "eval/kl", "health/variety"} <= set(lines(tmp_path)[-1])
    saved = json.loads((tmp_path / "held_out.json").read_text())
    assert set(saved["scores"]) == {"eval/modes", "eval/kl"}
    assert saved["protocol"]["n_fake"] == 64


@pytest.mark.parametrize(("change", "count"), [({}, 0), ({"n_fake": 3}, 1), (None, 1)])
def test_held_out_reals_are_scored_once_by_a_protocol(tmp_path, capsys, change, count):
    """A file of another protocol, or a damaged one, is written anew."""
    scored = []

    def evaluate_reals(held_out, labelled, failed):
        scored.append(len(held_out))
        failed["kid"] = MemoryError("too much")
        return {"fid": 3.0, "is": math.nan}

    def evaluator(**protocol):
        return types.SimpleNamespace(
            metrics={"fid": None}, describe=lambda: {"n_fake": 2} | protocol, evaluate_reals=evaluate_reals
        )

    parts = dict(workdir=tmp_path, checkpoints=types.SimpleNamespace(latest_step=int), config=tiny_config())
    parts |= dict(console=types.SimpleNamespace(note=print), told=set())
    run = Run(**dict.fromkeys(field.name for field in dataclasses.fields(Run)) | parts)
    generator = types.SimpleNamespace(num_classes=0)
    standard.score_held_out(run, evaluator(), images(), 4, None, {}, generator)
    assert scored == [40]
    assert "the metric kid of held-out reals failed at step 4, the run goes on" in capsys.readouterr().out
    assert standard.read_held_out(tmp_path).scores == {"eval/fid": 3.0}
    if change is None:
        (tmp_path / "held_out.json").write_text("{")
    standard.score_held_out(run, evaluator(**change or {}), images(), 8, None, {}, generator)
    assert len(scored) == 1 + count
    assert standard.read_held_out(tmp_path).scores == {"eval/fid": 3.0}
    assert ("damaged" in capsys.readouterr().err) == (change is None)


def test_cadence_0_is_the_end_of_the_run(tmp_path):
    config = tiny_config()
    for section in (config.log, config.sample, config.eval, config.health, config.checkpoint):
        section.every_kimg = 0.0
    calls = []
    train(config, tmp_path, images(), hooks=[every(0.0, lambda *args: calls.append(args[0])), lambda *args: {"a/b": 1}])
    (line,) = lines(tmp_path)
    assert (line["step"], line["a/b"], calls) == (STEPS, 1.0, [STEPS])
    assert "health/variety" in line
    assert saved_steps(tmp_path) == [STEPS]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [grid_name(0), grid_name(STEPS), "reals.png"]


def test_changed_settings_are_named(reference):
    config = tiny_config()
    config.optim_d.lr, config.seed = 1e-3, 5
    with pytest.raises(ConfigError, match=r"config\.seed: 0 -> 5") as error:
        train(config, reference, images())
    assert "config.optim_d.lr: 0.0002 -> 0.001" in str(error.value)


def test_other_images_are_refused(reference):
    other = ArrayDataset(255 - images().images, images().labels)
    with pytest.raises(ConfigError, match=r"fingerprint of the images: '40 images"):
        train(tiny_config(), reference, other)


def test_length_is_free_unless_a_schedule_follows_it():
    config = tiny_config()
    longer = config.copy_and_resolve_references()
    longer.train_kimg *= 2
    assert changes(longer, config) == (["config.train_kimg: 0.192 -> 0.384"], [])
    longer.optim_g.lr_schedule = config.optim_g.lr_schedule = "linear to 0"
    (fixed,) = changes(longer, config)[1]
    assert fixed.startswith("config.train_kimg: 0.192 -> 0.384 (config.optim_g.lr_schedule='linear to 0' ")


@pytest.mark.slow
def test_transparent_rectangles_are_trained_on(tmp_path):
    config = tiny_config()
    config.data.name, config.data.image_size, config.data.channels = "synthetic", (16, 24), 4
    config.model.name, config.model.g.channels, config.model.d.channels = "dcgan_strided", (8, 8), (4, 4)
    config.penalty.r1.weight, config.train_kimg = 0.0, 2 * KIMG
    assert train(config, tmp_path / "run") == 0
    generator = load(tmp_path / "run")
    assert generator.config.data.image_size == generator.data.image_size == (16, 24)
    assert generator.sample(3).shape == (3, 16, 24, 4)
    with Image.open(tmp_path / "run/samples/reals.png") as picture:  # enlarged 4 times
        assert (picture.size, picture.mode) == ((2 * 98 + 2, 2 * 66 + 2), "RGB")


def test_a_second_start_is_refused_while_one_trains(tmp_path):
    with sole_user({"x": tmp_path}), pytest.raises(ConfigError, match="another process is training there"):
        train(tiny_config(), tmp_path, images())


def test_images_without_labels_are_refused_before_any_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = tiny_config()
    config.model.conditional, config.data.name, config.data.dir = True, "images", str(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.png").write_bytes(b"no image")
    with pytest.raises(
        ConfigError, match=r"^config\.model\.conditional=True: .*photos have no labels; set it to False$"
    ):
        train(config, tmp_path / "run")
    (tmp_path / "photos/dataset.json").write_text('{"labels": [["1.png", 0]]}')
    with pytest.raises(OSError, match="is not a readable image"):
        train(config, tmp_path / "run")


def test_a_source_of_images_is_named_before_what_depends_on_it(tmp_path):
    config = tiny_config()
    config.data.name, config.eval.metrics = "imagess", ("modes",)  # those are of stacked_digits
    with pytest.raises(ConfigError, match=r"^config\.data\.name='imagess': .*nearest: .*images"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("seed", -1, "must be in 0 .. 2147483647"),
        ("batch_size", 15, "must be a multiple of the 2 devices"),
        ("steps_per_dispatch", 0, "must be above 0"),
        ("cpu_devices", 0, "must be above 0"),
        ("train_kimg", 1e30, r"at most 2\^31 - 1"),
        ("checkpoint.dir", "/proc/self/status/x", "cannot be made: "),
        ("checkpoint.dir", __file__, "cannot be made: File exists"),
        ("sample.grid", 0, "must be above 0"),
        ("checkpoint.keep_last", 0, "must be above 0"),
        ("log.every_kimg", -1.0, "must be a finite number, 0 or above"),
        ("eval.every_kimg", float("nan"), "must be a finite number, 0 or above"),
        ("penalty.r1.interval", 4, r"must divide the 2 D steps .*config\.log\.every_kimg=0\.064 or a multiple"),
        ("parallel", "jit", "pmap"),
        ("model.conditional", True, "has no labels"),
        ("eval.metrics", ("fjd",), "fid"),
        ("eval.metrics", ("modes",), "stacked_digits"),
        ("checkpoint.best_metric", "eval/fid", "eval"),
    ],
)
def test_a_setting_that_cannot_work_is_named_before_anything_is_written(tmp_path, key, value, right):
    config = tiny_config()
    config.update_from_flattened_dict({key: value})
    dataset = ArrayDataset(images().images)
    with pytest.raises(ConfigError, match=right) as error:
        train(config, tmp_path / "run", dataset)
    assert key in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_batch_is_not_larger_than_the_data_set(tmp_path):
    few = ArrayDataset(images().images[:15])
    with pytest.raises(ConfigError, match=r"config\.batch_size=16: must be at most the number of images, 15"):
        train(tiny_config(), tmp_path / "run", few)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"config": {}}, r"^config=\{\}: give a ConfigDict"),
        ({"workdir": None}, "^workdir=None: must be a path"),
        ({"workdir": __file__}, r"^workdir='.*': cannot be made: File exists"),
        ({"hooks": abs}, "^hooks=<built-in function abs>: give a list of functions"),
        ({"hooks": [None]}, r"^hooks=\[None\]: give a list of functions"),
        ({"hooks": [types.MethodType(abs, 1), "abs"]}, "^hooks=.*: give a list of functions"),
    ],
)
def test_an_argument_of_another_kind_is_named_before_anything_is_written(tmp_path, arguments, words):
    given = {"config": tiny_config(), "workdir": tmp_path / "run", "dataset": images()} | arguments
    with pytest.raises(ConfigError, match=words):
        train(**given)
    assert not list(tmp_path.iterdir())


def test_directories_are_made_together_or_not_at_all(tmp_path):
    with pytest.raises(ConfigError, match=r"^second='.*': cannot be made: "):
        make_directories({"first": tmp_path / "a" / "b", "second": pathlib.Path(__file__) / "c"})
    assert not list(tmp_path.iterdir())
    make_directories({"first": tmp_path / "a" / "b", "second": "gs://bucket/run", "third": tmp_path / "a"})
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    "returned", [{"eval/fid": 1.0}, {"loss/d": 1.0}, {"step": 1}, {"a": None}, {"a": 1j}, {"a": [1.0]}, {1: 1.0}, 1.0]
)
def test_what_a_hook_may_not_return(returned):
    with pytest.raises(ConfigError, match=r"^returned"):
        checked(lambda *given: returned)(1, None, {"loss/d": 0.5}, None)


def test_what_a_hook_may_return():
    given = {"a": jnp.float32(1), "b": np.nan, "c": True, "d": jnp.bfloat16(2)}
    returned = checked(lambda *arguments: given)(1, None, {}, None)
    assert str(returned) == "{'a': 1.0, 'b': nan, 'c': 1.0, 'd': 2.0}"  # the log writes null for nan
    assert checked(lambda *arguments: None)(1, None, {}, None) == {}


@pytest.mark.slow
def test_a_run_goes_on_with_its_past_on_another_machine(tmp_path, reference):
    """Its disk is new, its checkpoints are elsewhere, and with them its log, samples and curves."""
    config = tiny_config()
    config.checkpoint.dir = str(tmp_path / "disk/ck")
    config.train_kimg = 7 * KIMG
    assert train(config, tmp_path / "first", images()) == 0
    shutil.rmtree(tmp_path / "first")
    config.train_kimg = STEPS * KIMG
    assert train(config, tmp_path / "second", images()) == 0
    steps = [line["step"] for line in lines(tmp_path / "second")]
    assert steps == [2, 4, 6, 7, 8, 10, 12]
    named = {line["step"]: line for line in lines(reference)}
    for line in lines(tmp_path / "second"):
        if line["step"] in named:
            assert line == {k: v for k, v in named[line["step"]].items() if k in line}
    assert sorted(p.name for p in (tmp_path / "second/samples").iterdir()) == [
        *(grid_name(step) for step in (0, 6, 7, 12)),
        "reals.png",
    ]
    (tmp_path / "disk").rename(tmp_path / "away")
    before = (tmp_path / "second/metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"this run had checkpoints in .*, and now there is none\. Bring them back"):
        train(config, tmp_path / "second", images())
    assert (tmp_path / "second/metrics.jsonl").read_bytes() == before
    assert not (tmp_path / "disk").exists()


def test_damaged_descriptions_of_a_run_are_told(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"see')
    (tmp_path / "data.json").write_text("[1, 2]")
    note_damage(Progress(active=True), {tmp_path / "config.json": "seed", tmp_path / "data.json": "image_size"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("damaged, ")[2] for line in lines] == [
        "no JSON (Unterminated string starting at); it is written anew",
        "it holds no image_size; it is written anew",
    ]


def test_a_dry_run_says_what_a_start_would_change(undisturbed):
    config = read(undisturbed / "config.json")
    assert changes_on_resume(config, undisturbed) == []
    config.train_kimg *= 2
    assert changes_on_resume(config, undisturbed) == ["changed since the checkpoint: config.train_kimg: 0.192 -> 0.384"]
    config.seed = 7
    with pytest.raises(ConfigError, match=r"started with other settings: config\.seed: 0 -> 7"):
        changes_on_resume(config, undisturbed)
    assert changes_on_resume(config, undisturbed / "nothing") == []


def test_a_bucket_is_no_workdir():
    with pytest.raises(ConfigError, match=r"^workdir='gs://bucket/run': must be on this machine"):
        train(tiny_config(), "gs://bucket/run", images())


def test_the_run_goes_on_while_curves_are_drawn(tmp_path, monkeypatch, capsys):
    """The curves of step 6 wait for step 8; those of the last step are there when the run ends, or why they are not."""
    drawn, later = [], threading.Event()

    def draw(records, path, **options):
        drawn.append(later.wait(60))
        if len(drawn) == 2:
            raise OSError(28, "No space left on device")

    def tell(step, state, metrics, generator):
        if step == 8:
            later.set()

    monkeypatch.setattr("jaxgan.training.plots.curves", draw)
    assert train(tiny_config(), tmp_path, images(), hooks=[tell]) == 0
    assert drawn == [True, True]
    assert "warning: await_curves failed at step 12, the run goes on: OSError: [Errno 28]" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_due_at_a_checkpoint_is_made_by_the_next_start(tmp_path, undisturbed):
    """A death after the save and before the line costs nothing, wherever between them it comes."""

    def die(step, state, metrics, generator):
        if step == 6:
            raise SystemExit

    config = tiny_config()
    config.checkpoint.every_kimg = 2 * KIMG  # also at step 6, where health and samples are due
    with pytest.raises(SystemExit):
        train(config, tmp_path, images(), hooks=[die])
    assert saved_steps(tmp_path)[-1] == 6
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]
    assert not (tmp_path / "samples" / grid_name(6)).exists()
    assert train(tiny_config(), tmp_path, images()) == 0
    assert lines(tmp_path) == lines(undisturbed)
    for picture in (f"samples/{grid_name(step)}" for step in (6, 12)):
        assert (tmp_path / picture).read_bytes() == (undisturbed / picture).read_bytes()


def test_a_failing_by_product_costs_nothing_else(tmp_path, undisturbed, monkeypatch, capsys):
    """A hook, a picture and a log that fail are a warning each, told once."""

    def broken(step, state, metrics, generator):
        raise ZeroDivisionError("by nothing")

    def wordy(step, state, metrics, generator):
        return {"mine": "a word"}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(standard, "save_png", full)
    assert train(tiny_config(), tmp_path, images(), hooks=[broken, wordy]) == 0
    assert lines(tmp_path) == lines(undisturbed)
    assert_same_bits(final_state(tmp_path), final_state(undisturbed))
    output = capsys.readouterr().out
    assert str(tmp_path / "report.html") in output
    assert grid_name(12) not in output  # a picture that is not there
    warnings = [line for line in output.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 4
    for words in (
        "draw_first failed at step 0, the run goes on: OSError: [Errno 28] No space left on device",
        "broken failed at step 2, the run goes on: ZeroDivisionError: by nothing (traceback in ",
        "wordy failed at step 2, the run goes on: ConfigError: returned['mine']='a word': must be one number",
        "draw_samples failed at step 6, the run goes on: OSError: [Errno 28] No space left on device",
    ):
        assert sum(words in line for line in warnings) == 1, words


def test_a_metric_that_fails_is_one_warning_that_names_it(tmp_path):
    def evaluate(generator, failed):
        failed["fid"] = MemoryError("too much")
        return {"kid": 3.0}

    told = []
    parts = dict(workdir=tmp_path, checkpoints=types.SimpleNamespace(latest_step=int))
    parts |= dict(console=types.SimpleNamespace(note=told.append), told=set())
    run = Run(**dict.fromkeys(field.name for field in dataclasses.fields(Run)) | parts)
    for step in (4, 8):
        scores = standard.evaluate(run, types.SimpleNamespace(evaluate=evaluate), step, None, {}, None)
        assert scores == {"eval/kid": 3.0}
    assert len(told) == 1
    assert told[0].startswith("warning: the metric fid failed at step 4, the run goes on: MemoryError: too much (trace")


def test_a_log_that_lacks_its_end_ends_no_run(tmp_path, monkeypatch, capsys):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MetricsLog, "flush", full)
    assert train(tiny_config(), tmp_path, images()) == 0
    output = capsys.readouterr().out
    assert output.count("warning: keep_past failed at step 2, the run goes on: OSError: [Errno 28]") == 1
    assert output.splitlines()[-1].startswith("warning: the log lacks its end: OSError: [Errno 28]")


def test_a_hook_may_end_the_run(tmp_path):
    def enough(step, state, metrics, generator):
        raise RunFailed("seen enough")

    with pytest.raises(RunFailed, match="seen enough"):
        train(tiny_config(), tmp_path, images(), hooks=[enough])


def test_every_takes_a_cadence():
    for wrong in (-1.0, "x", float("nan")):
        with pytest.raises(ConfigError, match="every_kimg="):
            every(wrong, print)


class Diverging(HookCaller):
    """Finds a value that is not finite at step 6, the first times that it comes there."""

    times = 0

    def means(self, step, metrics):
        if step == 6 and type(self).times:
            type(self).times -= 1
            raise TrainingDiverged("loss/d = nan", 4, step, self._run)
        return super().means(step, metrics)


@pytest.mark.slow
def test_a_rollback_goes_on_from_the_last_checkpoint_with_other_draws(tmp_path, undisturbed, monkeypatch, capsys):
    monkeypatch.setattr(training_loop, "HookCaller", Diverging)
    config = tiny_config()
    config.on_divergence, config.max_rollbacks = "rollback", 2
    for name in ("one", "again"):
        Diverging.times = 2
        assert train(config, tmp_path / name, images()) == 0
        assert "step 6: rollback 2 of 2 to step 4" in capsys.readouterr().out
    before, after = (lines(run) for run in (undisturbed, tmp_path / "one"))
    assert [line["step"] for line in before] == [line["step"] for line in after]
    assert before[:2] == after[:2]
    assert before[2] != after[2]
    assert after == lines(tmp_path / "again")
    assert_same_bits(final_state(tmp_path / "one"), final_state(tmp_path / "again"))
    Diverging.times = 3
    right = r"step 6; the checkpoint of step 4 is good. All 2 rollbacks \(config.max_rollbacks\) are used. Try a lower"
    with pytest.raises(TrainingDiverged, match=right):
        train(config, tmp_path / "thrice", images())


def test_a_run_ends_when_its_score_does_not_improve(tmp_path, scores, capsys):
    scores |= {2: [3.0], 4: [1.0], 6: [2.0], 8: [1.0], 10: [0.5]}
    config = scored_config("fid")
    config.eval.every_kimg, config.checkpoint.best_metric = 2 * KIMG, "eval/fid"
    config.stop.after_kimg_without_improvement = 4 * KIMG  # best at step 4
    for _ in range(2):  # the second start sees that it has ended
        assert train(config, tmp_path, images()) == 0
        assert "eval/fid was best at 0.1 kimg: the run ends here (config.stop)" in capsys.readouterr().out
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6, 8]
    assert (tmp_path / "samples" / grid_name(8)).exists()  # the cadence 0 is the end of the run
    assert load(tmp_path, step="best").step == 8  # of equals the later
