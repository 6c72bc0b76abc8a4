"""Features of images: any extractors on all devices of this process; those of the reals are computed once and kept.

A kind of features is named "extractor/output", such as "inception/pool".
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from jaxgan.core.files import atomic_write, cache_home, locked
from jaxgan.core.parallel import LocalMap
from jaxgan.data import OnDemand, some_of
from jaxgan.evaluation.networks import Extractor

CHUNK = 64  # images at a time on each device
FORMAT = 1  # of what is kept on disk
FLUSH_IMAGES = 2048  # at most this many are extracted again after a kill


class Sample(NamedTuple):
    """What a metric sees of a set of images."""

    features: np.ndarray  # float32 [N, n]
    labels: np.ndarray | None  # int32 [N]; None: unlabelled


class Extraction:
    """Images to the features `wanted`, in one program on all devices of this process.

    Args:
      extractors: by name.
      wanted: kinds of features.
      images_of: pure (variables, block) -> images uint8 [n, H, W, C] on the device; the default takes images. Grey
        images become RGB by repetition.
    """

    def __init__(self, extractors: dict[str, Extractor], wanted: Iterable[str], images_of: Callable | None = None):
        self.wanted = sorted(wanted)
        self._extractors = {name: extractors[name] for name in sorted({kind.partition("/")[0] for kind in self.wanted})}
        self._images_of = images_of or (lambda variables, images: images)
        self._map = LocalMap(self._features, CHUNK)
        self.block = self._map.block

    def _features(self, variables, block) -> dict[str, jax.Array]:
        images = self._images_of(variables["images"], block)
        if images.shape[-1] == 1:
            images = jnp.repeat(images, 3, axis=-1)
        with jax.default_matmul_precision("highest"):  # GPUs and TPUs round to fewer bits otherwise
            outputs = {name: e.apply(variables[name], images) for name, e in self._extractors.items()}
        return {kind: outputs[kind.partition("/")[0]][kind.partition("/")[2]] for kind in self.wanted}

    def __call__(self, blocks: Iterable, variables=()) -> Iterable[dict[str, np.ndarray]]:
        """Yields the features of each block, {kind: float32 [n, width]}; `variables` are those of `images_of`."""
        return self._map({"images": variables} | {name: e.variables for name, e in self._extractors.items()}, blocks)

    def widths(self, image_shape: tuple[int, ...]) -> dict[str, int]:
        """How many numbers each kind of features of such images has."""
        variables = {"images": ()} | {name: e.variables for name, e in self._extractors.items()}
        shapes = jax.eval_shape(self._features, variables, jax.ShapeDtypeStruct((1, *image_shape), np.uint8))
        return {kind: shape.shape[1] for kind, shape in shapes.items()}

    def extractor(self, kind: str) -> Extractor:
        """The extractor that makes this kind of features."""
        return self._extractors[kind.partition("/")[0]]


def progress(total: int, what: str, done: int = 0, active: bool = True):
    """A bar on stderr that counts images; call its `update`."""
    often = 0.2 if sys.stderr.isatty() else 30.0  # seconds; a log file gets a line each time
    return tqdm.tqdm(
        total=total, initial=done, desc=what, unit=" images", disable=not active, leave=False, mininterval=often
    )


def identity(dataset) -> str:
    """SHA-256 of all images, or of 256 and their number where a set is decoded on demand."""
    digest = hashlib.sha256(repr((len(dataset), dataset.image_shape)).encode())
    if isinstance(dataset, OnDemand):
        digest.update(some_of(dataset)[0].tobytes())
    else:
        for start in range(0, len(dataset), 4096):
            digest.update(dataset.get(np.arange(start, min(start + 4096, len(dataset))))[0].tobytes())
    return digest.hexdigest()


def image_blocks(dataset, indices: np.ndarray, size: int, start: int = 0):
    """Images of a set in blocks of `size`, from position `start`; the index len(dataset) + i is image i mirrored."""
    for first in range(start, len(indices), size):
        part = indices[first : first + size]
        images, _ = dataset.get(part % len(dataset))
        mirrored = (part >= len(dataset))[:, None, None, None]
        yield np.where(mirrored, images[:, :, ::-1], images)


def kept_features(dataset, indices: np.ndarray, extraction: Extraction, *, what: str, active: bool = True):
    """Features of images of a set, {kind: float32 [N, width]}, from the cache as far as they are in it.

    They are kept below ~/.cache/jaxgan (or $XDG_CACHE_HOME) under everything that changes them: the images and their
    order, extractor, weights, resize and the kind of device. A kill loses the last `FLUSH_IMAGES`.

    Args:
      dataset, indices: as for `image_blocks`.
      what: the set in words, for people who look into the cache or at the progress bar.
      active: whether to show the bar.
    """
    about = {
        "format": FORMAT,
        "images": identity(dataset),
        "indices": hashlib.sha256(indices.astype(np.int64).tobytes()).hexdigest(),
        "backend": jax.default_backend(),
    }
    with contextlib.ExitStack() as stack:
        stores = {}
        for kind, width in extraction.widths(dataset.image_shape).items():
            e = extraction.extractor(kind)
            key = json.dumps(about | {"kind": kind, "weights": e.weights, "resize": e.resize}, sort_keys=True)
            directory = cache_home(f"features-{kind.replace('/', '-')}", key)
            stack.enter_context(locked(directory))
            stores[kind] = _Store(directory, (len(indices), width), f"{what}\n{key}\n")
        done = min(store.done for store in stores.values())
        if done < len(indices):
            features = extraction(image_blocks(dataset, indices, extraction.block, done))
            with progress(len(indices), what, done, active) as bar:
                for part in features:
                    n = len(next(iter(part.values())))
                    for kind, store in stores.items():
                        store.write(done, part[kind])
                    done += n
                    bar.update(n)
        return {kind: store.read() for kind, store in stores.items()}


class _Store:
    """An array on disk, filled from the front; `done` rows are safe."""

    def __init__(self, directory: Path, shape: tuple[int, int], about: str):
        self._array, self._count = directory / "features.npy", directory / "done"
        self._shape = shape
        self.done = int(self._count.read_text()) if self._count.exists() and self._array.exists() else 0
        self._file = None
        if not self.done:
            atomic_write(directory / "about.txt", about.encode())
            self._file = np.lib.format.open_memmap(self._array, "w+", np.float32, shape)
        elif self.done < shape[0]:
            self._file = np.lib.format.open_memmap(self._array, "r+")

    def write(self, start: int, rows: np.ndarray) -> None:
        """Rows from `start` on; those that are there already are left as they are."""
        stop = start + len(rows)
        if stop <= self.done:
            return
        self._file[start:stop] = rows
        if stop // FLUSH_IMAGES > self.done // FLUSH_IMAGES or stop == self._shape[0]:
            self._file.flush()
            atomic_write(self._count, str(stop).encode())
            self.done = stop

    def read(self) -> np.ndarray:
        return np.load(self._array, mmap_mode="r")
