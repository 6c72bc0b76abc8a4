"""What a person types: good commands work; a bad one is one line on stderr and a status, and writes nothing."""

import importlib
import inspect
import re
import shlex
import signal
import subprocess
import sys
import time

import jax
import pytest
from absl import flags

import jaxgan
from jaxgan import config_files
from jaxgan.__main__ import COMMANDS
from jaxgan.commands import app
from jaxgan.core import memory
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.planning import size
from jaxgan.settings import meanings, to_json
from tests.helpers import environment


def command(name):
    return importlib.import_module(f"jaxgan.commands.{name}").main


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """A function that runs a command in an empty folder, and returns the message that it must end with."""

    def run(main, arguments, status=2):
        (tmp_path / "cwd").mkdir()
        monkeypatch.chdir(tmp_path / "cwd")
        assert main(arguments) == status
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert not list((tmp_path / "cwd").iterdir())
        return message

    return run


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("def get_config(: pass", ":1: SyntaxError"),
        ("\n1 / 0", ":2: ZeroDivisionError: division by zero"),
        ("import nothing", ":1: ModuleNotFoundError: No module named 'nothing'\n"),
        ("x = 1\n\0", ":2=b'\\x00': must be text, without NUL bytes"),
        ("\nraise SystemExit", ":2: SystemExit\n"),
        ("def get_config():\n    return 3", ": get_config()=3: must return a ConfigDict"),
        ("import ml_collections\nget_config = ml_collections.ConfigDict", "mine.py lacks accumulate and "),
        ("x = 1", "the file defines no function get_config"),
        (
            "import jaxgan\n\ndef get_config():\n    jaxgan.default_config().sede = 1",
            ":4: sede does not exist; nearest: seed",
        ),
        ('import jaxgan\n\ndef get_config():\n    jaxgan.default_config()["sede"] = 1', ':4: KeyError: Key "sede"'),
    ],
)
def test_an_error_in_a_config_file_is_named_with_its_line(content, expected, fails, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(content)
    message = fails(command("train"), [f"--config={file}"])
    assert str(file) in message
    assert expected in message
    assert len(message) < 300


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_version(name, capsys):
    assert command(name)(["--help"]) == 0
    screen = capsys.readouterr().out
    assert f"jaxgan {name}" in screen
    assert all(f"\n  --{flag} " in screen for flag in command(name).flags)
    assert len(screen.splitlines()) <= 40
    assert max(map(len, screen.splitlines())) <= 120
    assert command(name)(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxgan {jaxgan.__version__}\n"


def test_settings_lists_every_setting_with_its_meaning(trained, capsys):
    assert command("train")(["--config=cifar:unconditional", "--settings", "--config.seed=3"]) == 0
    screen = capsys.readouterr().out
    assert not trained
    for line in (
        "--config.seed=3\n",
        "--config.model.conditional=False  # class-conditional G and D\n",
        "--config.optim_g.lr=0.0002  # learning rate\n",
        "--config.penalty.r1.interval=1\n",
    ):
        assert line in screen
    assert max(map(len, screen.splitlines())) <= 120
    assert command("train")(["--config=cifar", *shlex.split(screen, comments=True)]) == 0
    config = jaxgan.config("cifar:unconditional")
    config.seed = 3
    assert trained[0][0].to_dict() == config.to_dict()


def test_meanings_of_settings():
    means = meanings()
    assert means["data.dir"].endswith('tfds: where sets are kept ("": ~/tensorflow_datasets)')
    assert means["model.san"] == "D's last layer has norm 1 and learns its direction by a loss of its own (SAN)"
    assert means["model.fake_labels"].startswith("classes of fakes in training")
    assert means["optim_d.b1"] == means["optim_g.b1"] == "adam, adamw: decay of the first moment"
    assert all(means[f"penalty.{name}.weight"] for name in jaxgan.PENALTIES)


def test_configs_are_listed(capsys):
    assert command("configs")([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line[0] != " "] == list(config_files.packaged())
    sentence = "cifar_dcgan: CIFAR-10 with DCGAN (Radford et al. 2016), unconditional, as StudioGAN trains it."
    assert lines[lines.index(sentence) + 1] == "    0.05 EFLOP; FID 48.29, published"


@pytest.fixture
def trained(monkeypatch):
    """Where `train` would begin: what it is called with."""
    calls = []
    monkeypatch.setattr("jaxgan.training.loop.train", lambda config, workdir: calls.append((config, workdir)))
    return calls


def test_train_first_prints_the_command_that_does_the_same(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        command("train")(["--config=cifar:unconditional", "--config.seed", "3", "--config.data.dir=my pictures"]) == 0
    )
    printed = capsys.readouterr().out.splitlines()[0]
    _, _, typed = printed.partition(" train ")
    assert command("train")(shlex.split(typed)) == 0
    assert capsys.readouterr().out.splitlines()[0] == printed
    (first, workdir), (second, again) = trained
    assert workdir == again == "runs/cifar"
    assert first.to_dict() == second.to_dict()
    assert (first.seed, first.data.dir, first.model.conditional) == (3, "my pictures", False)


def test_a_run_resumes_with_its_own_settings(trained, fails, tmp_path):
    config = jaxgan.config("digits")
    config.checkpoint.allow_config_change = True
    (tmp_path / "config.json").write_text(to_json(config))
    assert command("train")([f"--workdir={tmp_path}", "--config.train_kimg=7"]) == 0
    config.train_kimg, config.checkpoint.allow_config_change = 7.0, False
    assert trained[0][0].to_dict() == config.to_dict()
    assert "no run is there to resume" in fails(command("train"), ["--workdir=elsewhere"])


@pytest.mark.parametrize("content", ['{"seed": ', "[1]", '{"seed": "a"}', '{"data": 3}', '{"sede": 1}'])
def test_a_damaged_config_of_a_run_says_what_to_do(content, fails, tmp_path):
    (tmp_path / "config.json").write_text(content)
    message = fails(command("train"), [f"--workdir={tmp_path}"], 1)
    assert message.startswith(f"error: {tmp_path}/config.json")
    assert message.endswith("; give --config too, and it is written anew\n")


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = ["--config=digits", "--config.penalty.r1.interval=5", "--config.batch_size=64"]
    assert command("train")([*config, "--dry_run"]) == 0
    rows = [line.split("  ")[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    rows = {words[0]: words[-1].strip() for words in rows}
    assert rows["generator"] == "248,256 parameters"
    assert "GFLOP an image" in rows["operations"]
    assert "a device: state, networks" in rows["scores"]
    assert re.search(r"at best [\d.e-]+ s a kimg, .* in all, at the [\d.,]+ GFLOP/s", rows["time"])
    assert not trained
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_dry_run_chooses_as_many_parts_as_the_run_would(monkeypatch, capsys):
    """The CPU's devices share the memory of the host, of which each has room for half of its batch here."""
    config = jaxgan.config("digits")
    recipe = jaxgan.recipe_from_config(config)
    whole, half = (size.step_bytes(recipe.replace(accumulate=n), jax.device_count()) for n in (1, 2))
    share = (0.2 * whole + 0.8 * half) / 0.9
    monkeypatch.setattr(memory, "host_bytes", lambda: jax.device_count() * share)
    assert memory.device_bytes(jax.devices()[0]) == share
    assert command("train")(["--config=digits", "--config.accumulate=0", "--dry_run"]) == 0
    images = config.batch_size // jax.device_count() // 2
    assert f"activations of {images} images" in capsys.readouterr().out


def test_train_needs_a_config_or_a_run(fails):
    assert "--config is not given" in fails(command("train"), [])


FLAGS = flags.FlagValues()
flags.DEFINE_string("config", None, "Which config.", FLAGS)
flags.DEFINE_integer("num", 1, "How many.", flag_values=FLAGS)


def test_each_call_begins_with_the_defaults():
    seen = []

    @app.command(FLAGS, required=["config"])
    def main(flags, config):
        seen.append(
            (flags.config, flags.num, flags["num"].present, config.batch_size, config.data.flip, config.eval.metrics)
        )

    given = ["--num=3", "--config.batch_size", "7", "--noconfig.data.flip", "--config.eval.metrics=fid,is"]
    assert main(["--config=cifar", *given]) == 0
    assert main(["--config", "cifar"]) == 0
    assert seen == [
        ("cifar", 3, 1, 7, False, ("fid", "is")),
        ("cifar", 1, 0, 64, True, ("fd_cifar", "is_cifar")),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ()),
        ("()", ()),
        ("8", (8,)),
        ("(8, 16)", (8, 16)),
        ("0.1,1e-2", (0.1, 0.01)),
        ("('fid', 'is')", ("fid", "is")),
    ],
)
def test_tuples_are_written_as_people_do(text, value):
    seen = []
    main = app.command(FLAGS)(lambda flags, config: seen.append(config.model.g.channels))
    assert main(["--config=cifar", f"--config.model.g.channels={text}"]) == 0
    assert seen == [value]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RunFailed("the run\n  failed"), 1),
        (OSError("the run failed"), 1),
        (KeyError("the run failed"), 1),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: the run failed"), 1),
        (MemoryError("the run failed"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failures_are_one_line_and_a_status(error, status, fails):
    @app.command(flags.FlagValues())
    def main(flags):
        raise error

    assert ("interrupted" if status == 130 else "the run failed") in fails(main, [], status)


def test_a_ctrl_c_before_the_first_step_says_that_nothing_is_lost(monkeypatch, fails):
    def interrupted(config, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxgan.training.loop.train", interrupted)
    line = fails(command("train"), ["--config=digits"], 130)
    assert line == "error: interrupted; no step was under way, so nothing is lost: run the same command again\n"


def test_a_ctrl_c_in_a_finaliser_is_not_lost(fails):
    """Python prints an exception that is raised there, and goes on."""

    class Finalised:
        def __del__(self):
            raise KeyboardInterrupt

    @app.command(flags.FlagValues())
    def main(flags):
        made = Finalised()
        del made
        time.sleep(30)

    assert fails(main, [], 130) == "error: interrupted\n"


def test_the_status_of_the_function_is_that_of_the_command():
    assert app.command(flags.FlagValues())(lambda flags: 143)([]) == 143


def python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], env=environment(), capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["--version"], 0, f"jaxgan {jaxgan.__version__}\n"),
        (
            ["tarin"],
            2,
            "error: tarin: choose one of train, report, explore, export, sample, evaluate, convert, configs, plan; "
            "nearest: train\n",
        ),
    ],
)
def test_processes(arguments, status, expected, tmp_path):
    done = python("-m", "jaxgan", *arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert (done.stderr if status else done.stdout) == expected
    assert not list(tmp_path.iterdir())


# As `python -m MODULE` runs them, one after the other in a process that imports JAX once.
MODULES = """
import runpy, sys
for module, arguments in CALLS:
    sys.argv = [module, *arguments]
    print("module", module)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code
"""


def test_every_command_is_a_module(tmp_path):
    flags = {
        "sample": "truncation",
        "evaluate": "protocol",
        "plan": "topology",
        "report": "runs",
        "explore": "port",
    } | {"export": "push"}
    calls = [(f"jaxgan.{name}", ["--help"]) for name in flags]
    calls.append(("jaxgan.main", ["--config=cifer"]))  # at last: it fails, which ends the process at once
    done = python("-c", MODULES.replace("CALLS", repr(calls)), cwd=tmp_path)
    screens = dict(screen.split("\n", 1) for screen in done.stdout.split("module ")[1:])
    assert done.returncode == 2, done.stderr
    assert "choose one of" in done.stderr
    assert "Traceback" not in done.stderr
    for name, flag in flags.items():
        assert f"--{flag}" in screens[f"jaxgan.{name}"]
    assert not list(tmp_path.iterdir())


def test_a_config_is_named_by_a_string_or_a_path():
    with pytest.raises(ConfigError, match=r"^config=None: choose one of cifar, "):
        jaxgan.config(None)
    file = config_files.packaged()["digits"]
    assert jaxgan.config(file).to_dict() == jaxgan.config("digits").to_dict()


def test_importing_the_package_imports_nothing_that_takes_time():
    code = "import sys, jaxgan; print(*sys.modules)"
    assert not {"jax", "numpy", "flax", "absl"} & set(python("-c", code, check=True).stdout.split())


def test_a_command_speaks_before_it_imports_jax():
    code = f"import sys, {', '.join(f'jaxgan.commands.{name}' for name in COMMANDS)}; print(*sys.modules)"
    assert not {"jax", "flax"} & set(python("-c", code, check=True).stdout.split())


def test_the_face_is_there_documented_and_typed():
    assert set(jaxgan.__all__) <= set(dir(jaxgan))
    for name in jaxgan.__all__:
        value = getattr(jaxgan, name)
        assert value is not None
        if callable(value):
            text, parameters = inspect.getdoc(value), inspect.signature(value).parameters.values()
            assert text, name
            bare = [p.name for p in parameters if p.annotation is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
            assert all(f"  {name} (" in text for name in bare), name  # where rooms may not import the type, in words
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = jaxgan.tarin


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_command_needs_no_console(closed, tmp_path):
    """As a daemon starts it."""
    script = f'exec "$0" -m jaxgan configs --help {closed}>&-'
    done = subprocess.run(["bash", "-c", script, sys.executable], env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_ctrl_c_while_libraries_are_imported_ends_the_command():
    """An exception there would leave half of JAX behind."""
    command = [sys.executable, "-m", "jaxgan", "train", "--config=digits", "--dry_run"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process, process.stderr as errors:
        assert "train --config=digits" in process.stdout.readline()  # the imports come next
        process.send_signal(signal.SIGINT)
        assert errors.read() == "error: interrupted before anything was done\n"
    assert process.returncode == 130


def test_warnings_are_lines_and_a_command_goes_on_when_nobody_reads_any_more():
    """Warnings of libraries are lines like our own."""
    code = """
import logging, sys, warnings
from absl import flags, logging as absl_logging
from jaxgan.commands import app
sys.argv, FLAGS = ["jaxgan"], flags.FlagValues()
@app.command(FLAGS)
def main(flags):
    absl_logging.warning("of %s", "absl")
    absl_logging.info("nothing")
    logging.getLogger("jax._src.xla_bridge").warning("of JAX")
    warnings.warn("of Python")
    for i in range(20000): print(i, flush=True)
    print("done", file=sys.stderr)
app.run(main)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process, process.stderr as errors:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert errors.read() == "warning: of absl\nwarning: of JAX\nwarning: of Python\ndone\n"
    assert process.returncode == 0
