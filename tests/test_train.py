"""The whole program on tiny nets: exact resume after real kills, signals, divergence, what a run leaves behind."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest
from PIL import Image

import jaxgan
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.data.digits import StackedDigits
from jaxgan.gan.state import create_state, make_nets
from jaxgan.settings import changes, default_config
from jaxgan.training.log import read_metrics
from jaxgan.training.loop import Run, sole_user, train

STEPS = 40


def tiny_config():
    """A run of a second after compilation: 40 steps of 16 images, a log line every 2, a checkpoint every 4."""
    config = default_config()
    config.data.name, config.data.image_size, config.data.flip = "stacked_digits", 8, False
    config.model.name, config.model.z_dim = "mlp", 8
    config.model.g_channels, config.model.d_channels = (16, 16), (8, 8)
    config.batch_size = 16
    config.train_kimg = STEPS * 16 / 1e3
    config.log.every_kimg = 2 * 16 / 1e3
    config.log.tensorboard = False
    config.checkpoint.every_kimg = 4 * 16 / 1e3
    config.sample.every_kimg = 20 * 16 / 1e3
    config.sample.grid = 2
    config.eval.metrics, config.eval.num_samples = ("modes",), 64
    config.eval.every_kimg = 20 * 16 / 1e3
    config.diagnose.every_kimg = 20 * 16 / 1e3
    return config


CONFIG_FILE = "from tests.test_train import tiny_config as get_config\n"
ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("reference")
    assert train(tiny_config(), workdir) == 0
    return workdir


def record(workdir):
    """The lines of metrics.jsonl without what a clock wrote."""
    return [
        {k: v for k, v in line.items() if not k.startswith("perf/")} for line in read_metrics(workdir / "metrics.jsonl")
    ]


def final_state(workdir):
    config = tiny_config()
    config.data.channels, config.data.num_classes = 3, 1000  # what `resolve` finds
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = checkpoints.restore(jax.eval_shape(lambda: create_state(make_nets(config), jax.random.key(0))))
    return state


def assert_same_run(a, b):
    jax.tree.map(np.testing.assert_array_equal, final_state(a), final_state(b))
    assert record(a) == record(b)


def command(workdir, *arguments):
    config = workdir.parent / "tiny.py"
    config.write_text(CONFIG_FILE)
    return [sys.executable, "-m", "jaxgan.main", f"--config={config}", f"--workdir={workdir}", *arguments]


def start(workdir, *arguments, **env):
    """The program on one device, as a person would start it."""
    env = (
        os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }
        | env
    )
    return subprocess.Popen(
        command(workdir, *arguments), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_what_a_run_leaves_behind(reference):
    lines = record(reference)
    assert [line["step"] for line in lines] == list(range(2, STEPS + 1, 2))
    assert lines[0]["kimg"] == pytest.approx(0.032)
    for name in (
        "loss/d", "loss/g", "logits/real", "logits/fake", "acc/real", "acc/fake", "lr/g", "lr/d",
        *(f"norm/{what}_{net}" for what in ("grad", "param", "update") for net in "gd"),
    ):  # fmt: skip
        assert all(name in line for line in lines), name
    assert {"eval/modes", "eval/kl", "health/variety", "health/overfit"} <= set(lines[9])
    assert json.loads((reference / "config.json").read_text())["model"]["name"] == "mlp"
    assert sorted(p.name for p in (reference / "samples").iterdir()) == ["00000020.png", "00000040.png"]
    with Image.open(reference / "curves.png") as curves:
        assert curves.size[0] > 300


def test_loaded_generator(reference):
    generator = jaxgan.load(reference)
    images = generator.sample(70)
    assert (images.shape, images.dtype) == ((70, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(generator.sample(5), images[:5])
    assert (generator.sample(5, seed=1) != images[:5]).any()
    assert generator.step == STEPS
    assert jaxgan.load(reference / "checkpoints", step=36).step == 36
    with pytest.raises(ValueError, match="unconditional"):
        generator.sample(3, labels=1)
    walk = generator.interpolate(2, 5)
    z = generator.latents(4)
    np.testing.assert_allclose(walk[[0, 4, 5, 9]].astype(int), generator.decode(*z).astype(int), atol=1)


def test_finished_run_starts_and_ends_at_once(reference, capsys):
    before = record(reference)
    assert train(tiny_config(), reference) == 0
    assert "resumed from step 40" in capsys.readouterr().out
    assert record(reference) == before


def test_longer_run_goes_on(tmp_path, reference):
    config = tiny_config()
    config.train_kimg /= 2
    train(config, tmp_path)
    assert train(tiny_config(), tmp_path) == 0
    assert_same_run(reference, tmp_path)


def test_changed_settings_are_named(reference):
    config = tiny_config()
    config.optim_d.lr, config.seed = 1e-3, 5
    with pytest.raises(ConfigError, match=r"config\.seed: 0 -> 5") as error:
        train(config, reference)
    assert "config.optim_d.lr: 0.0002 -> 0.001" in str(error.value)


def test_steps_per_call_and_devices_do_not_change_the_run(tmp_path, reference):
    config = tiny_config()
    config.steps_per_call = 2
    config.parallel = "shard_map"
    train(config, tmp_path)  # eight simulated devices, as the reference
    for a, b in zip(record(reference), record(tmp_path), strict=True):
        assert a["step"] == b["step"]
    difference = jax.tree.map(
        lambda x, y: np.abs(x - y).max(initial=0), final_state(reference).g.params, final_state(tmp_path).g.params
    )
    assert max(jax.tree.leaves(difference)) < 1e-3


def test_divergence_stops_before_any_checkpoint(tmp_path):
    config = tiny_config()
    config.optim_d.name = config.optim_g.name = "sgd"
    config.optim_d.lr = config.optim_g.lr = 1e30
    with pytest.raises(RunFailed, match=r"between step \d+ and step \d+; there is no checkpoint yet"):
        train(config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() is None


def test_divergence_names_the_last_good_checkpoint_and_saves_no_other(tmp_path):
    """Only the average is broken: no metric shows it, but it must not be saved."""
    config = tiny_config()
    config.train_kimg /= 2
    train(config, tmp_path)
    run_init = Run.__init__

    def broken(self, *args):
        run_init(self, *args)
        self.state = self.state.replace(ema=jax.tree.map(lambda x: x * np.nan, self.state.ema))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "__init__", broken)
        with pytest.raises(RunFailed, match="between step 20 and step 24; the checkpoint of step 20 is good"):
            train(tiny_config(), tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 20


def test_the_best_and_those_to_keep_are_saved_whatever_the_cadence(tmp_path):
    config = tiny_config()
    config.checkpoint.every_kimg = 14 * 16 / 1e3  # steps 14, 28, 40; evaluated at 20 and 40
    config.checkpoint.best_metric, config.checkpoint.keep_last = "eval/modes", 1
    config.checkpoint.keep_every_kimg = 6 * 16 / 1e3
    train(config, tmp_path)
    lines = {line["step"]: line for line in record(tmp_path)}
    best = max((20, 40), key=lambda step: lines[step]["eval/modes"])
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert set(checkpoints.all_steps()) == {6, 12, 18, 24, 30, 36, 40, best}


def test_a_second_start_is_refused_while_one_trains(tmp_path):
    with sole_user(tmp_path), pytest.raises(ConfigError, match="another process is training there"):
        train(tiny_config(), tmp_path)


def test_other_images_are_refused(reference, monkeypatch):
    original = StackedDigits.get
    monkeypatch.setattr(StackedDigits, "get", lambda self, i: (255 - original(self, i)[0], original(self, i)[1]))
    with pytest.raises(ConfigError, match=r"config\.data\.fingerprint: '50000 images"):
        train(tiny_config(), reference)


def test_length_is_free_unless_a_schedule_follows_it(reference):
    config = tiny_config()
    config.data.channels, config.data.num_classes = 3, 1000
    longer = config.copy_and_resolve_references()
    longer.train_kimg *= 2
    assert changes(longer, config)[1] == []
    longer.optim_g.lr_schedule = config.optim_g.lr_schedule = "linear to 0"
    assert len(changes(longer, config)[1]) == 1


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The undisturbed run in a process of its own, on one device."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    process = start(workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return workdir


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path, alone):
    """kill -9 after a random number of lines, so also during a save; then on, until the run is done."""
    rng, killed = random.Random(0), 0
    for _ in range(4):
        process = start(tmp_path / "run", "--config.checkpoint.every_kimg=0.032")
        target = len(read_lines(tmp_path / "run")) + rng.randint(1, 5)
        while process.poll() is None and len(read_lines(tmp_path / "run")) < target:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3  # the last one may have been done already
    process = start(tmp_path / "run", "--config.checkpoint.every_kimg=0.032")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_run(alone, tmp_path / "run")


def read_lines(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_the_next_start_goes_on(tmp_path, alone, number, status):
    process = start(tmp_path / "run")
    while process.poll() is None and not read_lines(tmp_path / "run"):
        time.sleep(0.002)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert f"stopped by {number.name}; saved step" in output
    output, _ = start(tmp_path / "run").communicate(timeout=300)
    assert "resumed from step" in output
    assert_same_run(alone, tmp_path / "run")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_two(workdir, *arguments):
    port = free_port()
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    return [
        start(
            workdir, *arguments, f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}",
            XLA_FLAGS=flags, 
        )
        for i in range(2)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_two_processes_train_stop_resume_and_agree_with_one(tmp_path, alone, backend):
    workdir = tmp_path / "run"
    options = [f"--config.parallel={backend}", "--config.steps_per_call=2"]
    processes = start_two(workdir, *options)
    while all(p.poll() is None for p in processes) and len(read_lines(workdir)) < 3:
        time.sleep(0.002)
    processes[1].send_signal(signal.SIGTERM)  # a scheduler takes one machine away: both save and stop
    outputs = [p.communicate(timeout=120)[0] for p in processes]
    assert [p.returncode for p in processes] == [143, 143], outputs
    processes = start_two(workdir, *options)
    outputs = [p.communicate(timeout=300)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert "resumed from step" in outputs[0]
    assert [line["step"] for line in record(alone)] == [line["step"] for line in record(workdir)]
    one, two = final_state(alone), final_state(workdir)  # saved by two processes, restored by this one
    difference = optax.tree.norm(jax.tree.map(np.subtract, one.g.params, two.g.params))
    assert difference <= 5e-3 * optax.tree.norm(one.g.params)  # rounding, after 40 steps of adam
    assert jaxgan.load(workdir).sample(4).shape == (4, 8, 8, 3)


def tool(name, *arguments, cwd):
    """Another command of the package, in a process of its own, on one device."""
    return subprocess.run(
        [sys.executable, "-m", f"jaxgan.{name}", *arguments], cwd=cwd, capture_output=True, text=True, check=False,
        env=os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
    )  # fmt: skip


def test_evaluate_command(tmp_path, reference):
    def evaluate(*arguments):
        return tool("evaluate", *arguments, cwd=tmp_path)

    lines = {line["step"]: line for line in record(reference)}
    result = evaluate(f"--workdir={reference}", "--num=64", "--step=all")
    assert result.returncode == 0, result.stderr
    printed = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [line["step"] for line in printed] == [36, 40]  # the checkpoints that were kept
    assert printed[1]["scores"] == {name: lines[40][f"eval/{name}"] for name in ("modes", "kl")}
    assert printed[1]["protocol"]["n_fake"] == 64
    assert printed[1]["protocol"]["protocol"] == "C but num=64, step=all"
    assert [json.loads(line) for line in (reference / "scores.jsonl").read_text().splitlines()] == printed
    assert "modes" in result.stdout.split("{")[0]  # the table

    assert tool("sample", f"--workdir={reference}", "--num=64", "--out=samples.npz", cwd=tmp_path).returncode == 0
    result = evaluate("--images=samples.npz", "--metrics=modes")
    scores = json.loads(result.stdout.splitlines()[-1])["scores"]
    assert scores == printed[1]["scores"]  # seed 0, and the labels play no part here

    for arguments, expected in (
        ((f"--workdir={reference}", "--step=best"), "no checkpoint in"),
        ((f"--workdir={reference}", "--step=last"), "--step=last: give a number, best or all"),
        ((f"--workdir={reference}", "--metrics=fjd"), "--metrics='fjd': choose one of fid"),
        ((f"--workdir={reference}", "--sigma_rel=0.1"), "sigma_rel=0.1: the average of this run is no power function"),
        (("--images=samples.npz", "--sigma_rel=0.1"), "--sigma_rel=0.1: --images have no average"),
        (("--images=samples.npz", "--standing_batches=2"), "--standing_batches=2: --images have no batch norm"),
        (("--images=samples.npz", "--metrics=fd_cifar"), "--real is not given"),
        (("--images=samples.npz", "--metrics=kid_cifar", "--real=samples.npz"), "kid_cifar takes at least 1000 fakes"),
    ):
        result = evaluate(*arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), (arguments, result.stderr)
        assert expected in result.stderr


def test_sample_command(tmp_path, reference):
    def sample(*arguments):
        return tool("sample", f"--workdir={reference}", *arguments, cwd=tmp_path)

    images = jaxgan.load(reference).sample(5, seed=3)
    result = sample("--num=5", "--seed=3", "--out=a/samples.npz")
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "a" / "samples.npz") as saved:
        # The command runs on one device, this process simulates eight: equal up to a rounding of the last bit.
        np.testing.assert_allclose(saved["images"].astype(int), images.astype(int), atol=1)
    assert sample("--num=5", "--out=b").returncode == 0
    assert len(list((tmp_path / "b").iterdir())) == 5
    assert sample("--num=3", "--interpolate", "--columns=4", "--out=walk.png").returncode == 0
    with Image.open(tmp_path / "walk.png") as walk:
        assert walk.size == (4 * (96 + 2) + 2, 3 * (96 + 2) + 2)
    assert sample("--sefa=2", "--columns=3", "--out=sefa.npz").returncode == 0
    with np.load(tmp_path / "sefa.npz") as saved:
        assert saved["images"].shape == (6, 8, 8, 3)
        assert saved["strengths"][0] >= saved["strengths"][1]
    assert sample("--project=b", "--steps=3", "--out=pairs.npz").returncode == 0
    with np.load(tmp_path / "pairs.npz") as saved:
        np.testing.assert_allclose(saved["images"][::2].astype(int), jaxgan.load(reference).sample(5), atol=1)
        assert saved["distances"].shape == (5,)
    for bad, expected in (
        ("--out=x.gif", "x.gif"),
        ("--labels=3", "unconditional"),
        ("--step=7", "step 7"),
        ("--per_class", "unconditional"),
        ("--extent=2", "--extent goes with --sefa"),
        ("--project=a", "holds no image"),
        ("--project=absent.png", "absent.png"),
    ):
        result = sample("--out=y.png", bad)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert expected in result.stderr
