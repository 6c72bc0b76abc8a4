"""A traceback is in a file beside the run, or else in the temporary directory."""

import tempfile

import pytest

from jaxgan.core.failures import write_traceback


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
