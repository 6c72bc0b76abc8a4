"""The user's cache is where it should be or, where nothing can be written there, in the temporary directory."""

import os
import tempfile

import pytest

from jaxgan.core.files import cache_directory


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def test_the_cache_is_in_the_home_directory_or_where_xdg_says(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory("xla") == tmp_path / ".cache/jaxgan/xla"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_directory() == tmp_path / "caches/jaxgan"
    assert not capsys.readouterr().err


def test_a_user_without_a_home_has_a_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # neither HOME nor an entry in /etc/passwd
    assert cache_directory("xla") == tmp_path / f"temporary/jaxgan-{os.getuid()}/xla"
    cache_directory("weights")
    message = capsys.readouterr().err
    assert message.startswith(
        "cannot write to the cache in ~/.cache/jaxgan (this user has no home directory); it is in "
    )
    assert message.count("\n") == 1


def test_the_directory_of_another_user_is_not_trusted(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / f"temporary/jaxgan-{os.getuid()}").symlink_to(tmp_path)
    assert cache_directory().name not in (f"jaxgan-{os.getuid()}", tmp_path.name)
    assert f"{tmp_path / 'file' / 'jaxgan'} (Not a directory)" in capsys.readouterr().err
