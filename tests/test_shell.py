"""The line that a person types to run a command."""

import os
import sys

import pytest

from jaxgan.core.shell import command_line, from_here


@pytest.mark.parametrize(
    ("installed", "path", "expected"),
    [
        (True, "env/bin", "jaxgan"),
        (True, "elsewhere", "env/bin/jaxgan"),
        (False, "env/bin", "env/bin/python -m jaxgan"),
    ],
)
def test_the_command_is_named_as_the_shell_finds_it(installed, path, expected, tmp_path, monkeypatch):
    programs = tmp_path / "env/bin"
    programs.mkdir(parents=True)
    for name in ("python", "jaxgan")[: 1 + installed]:
        (programs / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / path))
    assert command_line("sample", "--out=my walk.png") == f"{expected} sample '--out=my walk.png'"


def test_paths_outside_of_the_current_directory_stay_absolute(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert from_here("runs/digits") == os.path.join("runs", "digits")
    assert from_here(tmp_path / "hereafter") == str(tmp_path / "hereafter")
