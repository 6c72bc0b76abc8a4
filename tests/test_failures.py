"""A traceback is in a file beside the run, or else in the temporary directory."""

import errno
import os
import tempfile

import jax
import pytest

from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.failures import explain, write_traceback
from jaxgan.core.memory import require_memory


@pytest.fixture
def error():
    try:
        raise ValueError("no \ud800 hope")
    except ValueError as raised:
        return raised


def test_a_traceback_is_beside_the_run_or_in_the_temporary_directory(error, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "run").mkdir()
    assert write_traceback(error, tmp_path / "absent") is None
    first, second = (write_traceback(error, tmp_path / "run") for _ in range(2))
    assert first != second
    assert {first, second} == set((tmp_path / "run").glob("error-*.txt"))
    assert first.read_text().startswith("Traceback (most recent call last):\n")
    (tmp_path / "temporary").mkdir()
    for directory in (None, tmp_path / "absent"):
        assert write_traceback(error, directory).parent == tmp_path / "temporary"


def oom(text):
    return jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {text}")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("--num=0: must be 1 or above"), 2, "--num=0: must be 1 or above"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RunFailed("a value is\n  not finite"), 1, "a value is not finite"),
        (oom("Out of memory allocating 270582939648 bytes."), 1, "out of memory: 252 GiB wanted at once; give less"),
        (oom("Out of memory while trying to allocate 1.5GiB."), 1, "out of memory: 1.5 GiB wanted at once; give less"),
        (oom("Ran out of memory in hbm. Used 20G"), 1, "out of memory: Ran out of memory in hbm. Used 20G; give less"),
        (
            MemoryError("Unable to allocate 7.5 TiB for an array with shape (1,)"),
            1,
            "out of memory: 7.5 TiB wanted at once; give less",
        ),
        (OSError(errno.EIO, "Input/output error", "x.png"), 1, "x.png: Input/output error"),
        (OSError(errno.ENOSPC, "No space left on device", "x.png"), 1, "x.png: No space left on device (free: "),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x.png"), 1, "x.png: Disk quota exceeded (free: "),
        (ValueError("[tensorstore] No space left on device"), 1, "No space left on device (free: "),
        (RuntimeError("Unable to initialize backend 'cuda': no plug-in (you may"), 1, "Unable to initialize backend"),
        (KeyError("wings"), 1, "unexpected KeyError: 'wings'; please report this, with the traceback"),
    ],
)
def test_an_error_is_a_status_and_a_line(error, status, line, tmp_path):
    found, said = explain(error, tmp_path, advice="give less")
    assert found == status
    assert line in said
    assert "\n" not in said
    files = list(tmp_path.iterdir())
    assert len(files) == (status == 1 and not isinstance(error, RunFailed))
    assert all(said.endswith(f" (traceback: {file})") for file in files)


def test_a_run_that_failed_by_another_error_has_a_traceback(tmp_path):
    error = RunFailed("the hook failed")
    error.__cause__ = ValueError("why")
    assert "traceback" in explain(error, tmp_path)[1]


def test_memory_that_nothing_tells_of_is_no_limit(monkeypatch):
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    require_memory("config.batch_size", 10**9, 2**60, "the images")
