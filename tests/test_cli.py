"""What a person types: good commands work, bad ones are one line with exit code 2 and write nothing."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

BAD = {
    "left-over argument": (["extra"], "extra"),
    "unknown key": (["--config.optim_g.learning_rate=1"], "config.optim_g.lr,"),
    "misspelt section": (["--config.optm_g.lr=1"], "config.optim_g.lr"),
    "whole section": (["--config.optim_g=adam"], "config.optim_g is a section"),
    "wrong type": (["--config.batch_size=many"], "many"),
    "unknown flag": (["--wrkdir=x"], "wrkdir"),
    "unusable combination": (["--config.model.name=dcgan", "--config.data.image_size=8"], "config.data.image_size=8"),
    "unknown loss": (["--config.loss=hing"], "choose one of"),
    "no data": (
        ["--config.data.name=folder", "--config.eval.metrics=()", "--config.checkpoint.best_metric="],
        "config.data.dir",
    ),
    "half a cluster": (["--coordinator=localhost:1"], "--num_processes"),
}


UNKNOWN_KEY = """
from jaxgan.config import default_config
def get_config():
    config = default_config()
    config.sede = 1
    return config
"""


def run(module, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", f"jaxgan.{module}", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def assert_one_line(result, expected, cwd):
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert expected in result.stderr
    assert not list(cwd.iterdir())


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name, tmp_path):
    arguments, expected = BAD[name]
    result = run("main", f"--config={ROOT}/configs/digits.py", *arguments, cwd=tmp_path)
    assert_one_line(result, expected, tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "--config"),
        ("def get_config(: pass", "syntax"),
        (UNKNOWN_KEY, "sede"),
    ],
)
def test_bad_config_file(content, expected, tmp_path):
    empty = tmp_path / "cwd"
    empty.mkdir()
    if content:
        (tmp_path / "bad.py").write_text(content)
        arguments = [f"--config={tmp_path}/bad.py"]
    else:
        arguments = []
    assert_one_line(run("main", *arguments, cwd=empty), expected, empty)


def test_missing_config_file(tmp_path):
    assert_one_line(run("main", "--config=configs/absent.py", cwd=tmp_path), "absent.py", tmp_path)


def test_sample_without_a_checkpoint(tmp_path):
    result = run("sample", f"--workdir={tmp_path}", "--out=x.png", cwd=tmp_path)
    assert_one_line(result, "no checkpoint", tmp_path)


def test_help_lists_the_flags(tmp_path):
    result = run("main", "--help", cwd=tmp_path)
    for flag in ("--config", "--workdir", "--coordinator"):
        assert flag in result.stdout
