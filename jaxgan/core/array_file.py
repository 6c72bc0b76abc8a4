"""Arrays that are kept on disk: filled from the front, with a checksum for each block of rows."""

import concurrent.futures
import contextlib
import errno
import json
import math
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxgan.core.files import atomic_write, locked
from jaxgan.core.integrity import Damaged, crc32, seal, unseal


class NotKept(Exception):
    """Says why something cannot be kept on disk, such as a full one; who computed it does without."""


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Turns what a disk refuses into NotKept."""
    try:
        yield
    except OSError as error:
        raise NotKept(str(error)) from error


@contextlib.contextmanager
def locked_to_keep(directory: Path) -> Iterator[None]:
    """Is `files.locked`, with NotKept where the directory cannot be made or written."""
    with contextlib.ExitStack() as stack:
        with keeping():
            stack.enter_context(locked(directory))
        yield


def reserve(path: Path, size: int) -> None:
    """Takes `size` bytes of disk for a file that exists; raises NotKept if there are fewer.

    A memory map of a file with holes would end the process by SIGBUS when the disk is full.
    """
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        return
    except AttributeError:  # not a POSIX system
        refused = False
    except OSError as error:
        refused = error.errno not in (errno.EOPNOTSUPP, errno.EINVAL)  # what some file systems say
    free = shutil.disk_usage(path.parent).free
    if refused or free < size:
        raise NotKept(f"{path} takes {size / 1e6:,.1f} MB of disk, of which {free / 1e6:,.1f} MB are free")


class ArrayFile:
    """An array in a file of NumPy's, and beside it, as sealed JSON, how many rows are safe and their checksums.

    Args:
      path: the file, FILE.npy; the other is FILE.json.
      dtype: the type of its elements.
      shape: of the whole array; `read` returns as many rows as were appended.

    Example:
      file = ArrayFile(directory / "features.npy", np.float32, (50_000, 2048))
      if file.load() < 50_000:
          file.append(rows)
    """

    def __init__(self, path: Path, dtype, shape: tuple[int, ...]):
        self._path, self._about = path, path.with_suffix(".json")
        self._dtype, self._shape = np.dtype(dtype), tuple(shape)
        self._array = None
        self._blocks: list[list[int]] = []  # [row behind the block, CRC-32]
        self._rows = self._crc = 0  # rows that were appended, and the checksum of those behind the last block

    def load(self) -> int:
        """Returns how many rows are there and safe; raises Damaged if what is there is not what was written."""
        if not self._about.exists():  # a kill before the first block leaves the array alone
            return 0
        try:
            about = unseal(json.loads(self._about.read_bytes()))
            blocks = about.pop("blocks")
            array = np.load(self._path, mmap_mode="r")
        except Damaged:
            raise
        except Exception as error:  # whatever those files hold now
            raise Damaged(f"{type(error).__name__}: {error}") from error
        if about != self._kind() or (array.dtype, array.shape) != (self._dtype, self._shape):
            raise Damaged(f"{self._path.name} is {array.dtype}{list(array.shape)}")
        starts = [0, *(stop for stop, _ in blocks)]
        with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            found = threads.map(lambda start, block: crc32(array[start : block[0]]), starts, blocks)
            if list(found) != [crc for _, crc in blocks]:
                raise Damaged(f"{self._path.name} has changed since it was written")
        self._array, self._blocks, self._rows, self._crc = array, blocks, starts[-1], 0
        return self._rows

    def append(self, rows: np.ndarray) -> None:
        """Writes rows behind those that are there; raises NotKept where the disk refuses."""
        if not len(rows):
            return
        with keeping():
            if self._array is None:
                self._about.unlink(missing_ok=True)
                self._create()
            elif not self._array.flags.writeable:
                self._array = np.load(self._path, mmap_mode="r+")
        rows = np.ascontiguousarray(rows, self._dtype)
        self._array[self._rows : self._rows + len(rows)] = rows
        self._rows, self._crc = self._rows + len(rows), zlib.crc32(rows.reshape(-1).view(np.uint8), self._crc)

    def flush(self) -> None:
        """Makes the rows safe that were appended, as a block of their own."""
        if self._rows == self.safe:
            return
        with keeping():
            self._array.flush()
            self._blocks.append([self._rows, self._crc])
            self._crc = 0
            atomic_write(self._about, json.dumps(seal(self._kind() | {"blocks": self._blocks})).encode())

    @property
    def safe(self) -> int:
        """The number of rows that no kill can lose."""
        return self._blocks[-1][0] if self._blocks else 0

    def read(self) -> np.ndarray:
        """Returns the rows that were appended, mapped into memory."""
        return np.load(self._path, mmap_mode="r")[: self._rows]

    def _kind(self) -> dict:
        return {"dtype": str(self._dtype), "shape": list(self._shape)}

    def _create(self) -> None:
        try:
            self._array = np.lib.format.open_memmap(self._path, "w+", self._dtype, self._shape)
            reserve(self._path, self._array.offset + math.prod(self._shape) * self._dtype.itemsize)
        except BaseException:
            self._array = None
            self._path.unlink(missing_ok=True)
            raise
