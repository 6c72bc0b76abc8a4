"""Encoded images to uint8 arrays, once: the result is kept on disk, with checksums, and mapped into memory.

A set whose decoded copy would take more disk than it may, or than there is, is decoded whenever it is read, to the same
bits; a line says so, and why.
"""

import concurrent.futures
import functools
import itertools
import json
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from jaxgan.core.array_file import ArrayFile, NotKept, keeping, locked_to_keep
from jaxgan.core.files import announce, atomic_write
from jaxgan.core.integrity import Damaged, seal, unseal
from jaxgan.core.progress import progress
from jaxgan.data.arrays import ArrayDataset

THREADS = 16  # more than cores, as a file may be on a disk far away
# Images that take less, in seconds, are small and near: most of their time is Python's, which threads only contend for.
# On two cores, one thread decodes 7,400 JPEGs of 32 pixels a second and sixteen 3,200; from 256 pixels on (1.3 ms by
# one, 0.8 by two or more) they gain.
QUICK = 7e-4
DECODING_VERSION = 1  # part of the names of decoded copies: raise it when jaxgan/data/image_file.py makes other pixels


class Unreadable(OSError):
    """Says why an image cannot be decoded."""


class NothingReadable(Unreadable):
    """Says why no image of a set can be decoded."""


class Source(Protocol):
    """Encoded images on disk that any number of threads may decode."""

    num_classes: int  # 0: unlabelled
    class_names: tuple[str, ...]  # (): none
    image_shape: tuple[int, int, int]  # H, W, C
    is_checked: bool  # no image can be unreadable, as far as anyone knows

    def __len__(self) -> int:
        """Returns the number of images."""

    def facts(self) -> dict[str, str]:
        """Returns what a person should know of the set before training, {what: in words}."""

    def read_labels(self) -> np.ndarray:
        """Returns all labels, int32 [N], without decoding an image."""

    def read(self, indices) -> Iterable[tuple[np.ndarray, int]]:
        """Yields the decoded image, uint8 [H, W, C], and the label (0 where unlabelled) for each index.

        Raises:
          Unreadable: the next image cannot be decoded.
        """

    def without(self, unreadable: dict[int, str]) -> "Source":
        """Returns this source without some images, {index: why it is Unreadable}; not asked of one that is checked."""


class StreamingDataset:
    """A data set decoded whenever it is read."""

    def __init__(self, source: Source):
        self._source = source
        self.num_classes, self.image_shape = source.num_classes, source.image_shape
        self.class_names, self.facts = source.class_names, source.facts()

    def __len__(self):
        return len(self._source)

    @functools.cached_property
    def labels(self):
        return self._source.read_labels()

    def get(self, indices):
        images, labels, unreadable = _decode(self._source, indices)
        for reason in unreadable.values():
            raise Unreadable(reason)
        return images, labels


def _decode(source: Source, indices) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Returns images, labels, and the indices that are Unreadable with the reasons; of those the image is black."""
    images = np.zeros((len(indices), *source.image_shape), np.uint8)
    labels = np.empty(len(indices), np.int32)
    done, unreadable, given_up = 0, {}, threading.Event()

    def read(chunk) -> list:
        examples = []
        try:
            for example in source.read(chunk):
                if given_up.is_set():
                    raise concurrent.futures.CancelledError
                examples.append(example)
        except Unreadable as error:
            examples.append((str(error), 0))
            examples += read(rest) if len(rest := chunk[len(examples) :]) else []
        return examples

    def in_order():
        start, quick = 0, True
        while quick and start < len(indices):
            chunk, begin = indices[start : start + (16 if start else 1)], time.perf_counter()
            some = threads.submit(read, chunk).result()  # a Ctrl-C does not wait for it
            quick = time.perf_counter() - begin < QUICK * len(chunk)
            yield from some
            start += len(chunk)
        # Sixteen at a time: one by one, small images would cost more in handing them over than in decoding.
        chunks = [indices[i : i + 16] for i in range(start, len(indices), 16)]
        yield from itertools.chain.from_iterable(threads.map(read, chunks))

    threads = concurrent.futures.ThreadPoolExecutor(THREADS)
    try:
        for image, label in in_order():
            if isinstance(image, str):
                unreadable[int(indices[done])] = image
            else:
                images[done] = image
            labels[done] = label
            done += 1
    finally:  # a Ctrl-C does not wait for what is being decoded
        given_up.set()
        threads.shutdown(wait=False, cancel_futures=True)
    return images, labels, unreadable


_STREAMED = "images are decoded whenever they are read"


class _Decoded(NamedTuple):
    """What is known of a source once all its images were decoded."""

    unreadable: dict[int, str]  # {index: reason}
    arrays: tuple[np.ndarray, np.ndarray] | None = None  # images and labels of the others, where they are kept


def open_source(
    source: Source, directory: Path, most_gb: float = math.inf, skip_unreadable: bool = False
) -> ArrayDataset | StreamingDataset:
    """Returns the decoded images of `source`, mapped into memory from `directory`, which is filled if it is not there.

    All images of a source that is not checked are decoded once, to know which ones cannot be.

    Args:
      directory: gets its name when it is complete, so processes may start, or be killed, at any time. What is damaged
        there is made anew.
      most_gb: the disk space, in 10^9 bytes, that the decoded copy may take; a set that needs more is a
        StreamingDataset. So is one whose copy cannot be written.
      skip_unreadable: leave images out that cannot be decoded.

    Raises:
      Unreadable: there are such images; it counts them and names the first.
    """
    takes = len(source) * math.prod(source.image_shape) / 1e9
    keep = takes <= most_gb
    if not keep:
        announce(f"{_STREAMED}: they take {takes:,.3g} GB of disk, more than config.data.cache_gb={most_gb:g}")
        if source.is_checked:
            return StreamingDataset(source)
    try:
        decoded = _kept(source, directory, keep) or _make(source, directory, keep, skip_unreadable)
    except NotKept as error:
        announce(f"warning: {_STREAMED}: {error}")
        decoded = _Decoded({} if source.is_checked else _write(source, None))
    if decoded.unreadable:
        _allow(decoded.unreadable, source, skip_unreadable)
        source = source.without(decoded.unreadable)
    if decoded.arrays is None or not keep:
        return StreamingDataset(source)
    dataset = ArrayDataset(*decoded.arrays, source.num_classes, source.class_names, alpha=None)
    dataset.facts = source.facts()
    return dataset


def _allow(unreadable: dict[int, str], source: Source, skip_unreadable: bool) -> None:
    count, n = len(unreadable), len(source)
    if not count or (skip_unreadable and count < n):
        return
    some = "; ".join(list(unreadable.values())[:3])
    text = f"{count:,} of {n:,} images cannot be read: {some}" + f"; and {count - 3:,} more" * (count > 3)
    raise (NothingReadable if count == n else Unreadable)(text)


def _kept(source: Source, directory: Path, keep: bool, warn: bool = False) -> _Decoded | None:
    """Returns what is in `directory`; None if that is not all that is wanted, with a warning if it is damaged."""
    if not directory.exists():
        return None
    try:
        try:
            document = unseal(json.loads((directory / "unreadable.json").read_bytes()))
        except (OSError, ValueError) as error:
            raise Damaged(f"unreadable.json: {error}") from error
        unreadable = {int(i): reason for i, reason in document.items()}
        images, labels = _files(source, directory)
        found, there = [images.load(), labels.load()], len(source) - len(unreadable)
        if found == [there, there]:
            return _Decoded(unreadable, (images.read(), labels.read()))
        if found != [0, 0]:
            raise Damaged(f"{min(found):,} of {there:,} images are there")
        return None if keep else _Decoded(unreadable)
    except Damaged as error:
        if warn:
            announce(f"warning: {directory} is damaged ({error}) and made anew")
        return None


def _files(source: Source, directory: Path) -> tuple[ArrayFile, ArrayFile]:
    n = len(source)
    images = ArrayFile(directory / "images.npy", np.uint8, (n, *source.image_shape))
    return images, ArrayFile(directory / "labels.npy", np.int32, (n,))


def _make(source: Source, directory: Path, keep: bool, skip_unreadable: bool) -> _Decoded:
    """Fills `directory`, unless another process has meanwhile, and returns what is in it."""
    with locked_to_keep(directory.parent):
        if decoded := _kept(source, directory, keep, warn=True):
            return decoded
        with keeping():
            for abandoned in directory.parent.glob(".decoding-*"):  # by a process that was killed
                shutil.rmtree(abandoned)
            temporary = tempfile.TemporaryDirectory(dir=directory.parent, prefix=".decoding-")
        height, width, _ = source.image_shape
        what = f"{len(source):,} images to {width}x{height}"
        takes = len(source) * math.prod(source.image_shape) / 1e6
        place = f", {takes:,.1f} MB in {directory}" if keep else " to see whether they can be read"
        announce(f"Decoding {what}{place} (once) ...")
        with temporary:
            complete = Path(temporary.name, "complete")
            with keeping():
                complete.mkdir()
            unreadable = _write(source, complete if keep else None)
            _allow(unreadable, source, skip_unreadable)
            with keeping():
                atomic_write(complete / "unreadable.json", json.dumps(seal(unreadable)).encode())
                if directory.exists():
                    shutil.rmtree(directory)
                complete.rename(directory)
        return _kept(source, directory, keep) or _Decoded(unreadable)


def _write(source: Source, directory: Path | None) -> dict[int, str]:
    """Decodes all images, into `directory` if there is one, and returns those that are Unreadable."""
    n, unreadable = len(source), {}
    files = () if directory is None else _files(source, directory)
    block = max(1, 2**26 // math.prod((1024, *source.image_shape)))  # of 64 MB, in parts of 1024 images
    with progress(n, "decoding") as update:
        for i, start in enumerate(range(0, n, 1024)):
            indices = np.arange(start, min(start + 1024, n))
            *arrays, failed = _decode(source, indices)
            unreadable |= failed
            good = [index not in failed for index in indices.tolist()]
            for file, rows in zip(files, arrays, strict=bool(files)):
                file.append(rows[good])
                if i % block == block - 1 or indices[-1] == n - 1:
                    file.flush()
            update(len(indices))
    return unreadable
