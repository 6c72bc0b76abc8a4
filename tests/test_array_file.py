"""Arrays on disk: what was written is read, what has changed since is noticed, and a full disk is one line."""

import errno
import json
import os
import shutil
import types

import numpy as np
import pytest

from jaxgan.core import array_file
from jaxgan.core.array_file import ArrayFile, NotKept, locked_to_keep
from jaxgan.core.integrity import Damaged, seal

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def opened(path, dtype=np.float32, shape=(20, 3)):
    return ArrayFile(path / "rows.npy", dtype, shape)


def written(path, rows=ROWS, block=8):
    file = opened(path)
    for start in range(0, len(rows), block):
        file.append(rows[start : start + block])
        file.flush()
    return file


def test_rows_are_read_back_and_only_whole_blocks_survive(tmp_path):
    file = written(tmp_path, ROWS[:16])
    file.append(ROWS[16:18])
    assert (file.safe, len(file.read())) == (16, 18)
    again = opened(tmp_path)
    assert again.load() == 16
    again.append(ROWS[16:])
    again.flush()
    last = opened(tmp_path)
    assert last.load() == 20
    np.testing.assert_array_equal(last.read(), ROWS)


def test_an_array_that_was_never_safe_is_none(tmp_path):
    assert opened(tmp_path).load() == 0
    opened(tmp_path).append(ROWS)
    assert opened(tmp_path).load() == 0


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a bit": lambda path: flip(path / "rows.npy"),
    "the end": lambda path: os.truncate(path / "rows.npy", 200),
    "everything": lambda path: (path / "rows.npy").write_bytes(b""),
    "the file": lambda path: (path / "rows.npy").unlink(),
    "its type": lambda path: np.save(path / "rows.npy", ROWS.astype(np.float64)),
    "its shape": lambda path: np.save(path / "rows.npy", ROWS[:10]),
    "the account": lambda path: (path / "rows.json").write_text("abc"),
    "an empty account": lambda path: (path / "rows.json").write_text(""),
    "a list": lambda path: (path / "rows.json").write_text("[1]"),
    "a digit of it": lambda path: flip(path / "rows.json"),
    "a sealed account of something else": lambda path: (path / "rows.json").write_text(json.dumps(seal({"a": 1}))),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_noticed_and_written_over(tmp_path, name):
    written(tmp_path)
    DAMAGE[name](tmp_path)
    file = opened(tmp_path)
    with pytest.raises(Damaged):
        file.load()
    file.append(ROWS)
    file.flush()
    assert opened(tmp_path).load() == 20


def test_another_request_is_damage_too(tmp_path):
    written(tmp_path)
    for other in (opened(tmp_path, np.int32), opened(tmp_path, shape=(20, 4)), opened(tmp_path, shape=(60,))):
        with pytest.raises(Damaged):
            other.load()


def no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(NotKept, match=r"rows\.npy takes .* MB of disk, of which .* MB are free$"):
        opened(tmp_path).append(ROWS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["elsewhere", "unsupported"])
def test_where_room_cannot_be_reserved_it_is_looked_at(tmp_path, monkeypatch, how):
    if how == "elsewhere":
        monkeypatch.delattr(os, "posix_fallocate")
    else:

        def unsupported(*_):
            raise OSError(errno.EOPNOTSUPP, "not supported")

        monkeypatch.setattr(os, "posix_fallocate", unsupported)
    written(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=100))
    with pytest.raises(NotKept, match="takes"):
        array_file.reserve(tmp_path / "rows.npy", 101)


def test_room_is_reserved_before_the_map_is_written(tmp_path):
    opened(tmp_path, np.uint8, (2**20,)).append(np.zeros(1, np.uint8))
    assert (tmp_path / "rows.npy").stat().st_blocks * 512 >= 2**20


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotKept, match="file"), locked_to_keep(tmp_path / "file" / "directory"):
        pass
