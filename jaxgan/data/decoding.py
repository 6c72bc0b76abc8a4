"""Image files to uint8 arrays, once: the result is kept on disk.

An image whose size is not `image_size` is cropped to its central square and resized with the Lanczos
filter, which Pillow widens when it shrinks an image (no aliasing). EXIF rotation is applied, transparency
is laid on white. A set whose decoded copy would take too much disk is decoded whenever it is read, to the same bits.
"""

import functools
import math
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from jaxgan.core.files import announce, locked
from jaxgan.data.arrays import ArrayDataset, on_white

DECODING_VERSION = 1  # part of the names of decoded copies: raise it whenever `decode_image` makes other pixels


def decode_image(file, size: int, channels: int, exact: bool = False) -> np.ndarray:
    """Returns an image file as uint8 [size, size, channels].

    Args:
      file: a path or an open file.
      channels: 1 (grey) or 3 (RGB).
      exact: raise a ValueError for an image of another size, instead of cropping and resizing it.
    """
    with Image.open(file) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"pixels of type {image.mode}; only 8 bits a channel are supported")
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = on_white(image)
        image = image.convert("L" if channels == 1 else "RGB")
    if exact and image.size != (size, size):
        raise ValueError(
            f"{image.width}x{image.height} pixels; all must be square and of one size, such as {size}x{size}"
        )
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(size, size, channels)


class Source(Protocol):
    """Encoded images on disk that any number of threads may decode."""

    num_classes: int  # 0: unlabelled
    image_shape: tuple[int, int, int]  # H, W, C

    def __len__(self) -> int:
        """Returns the number of images."""

    def read_labels(self) -> np.ndarray:
        """Returns all labels, int32 [N], without decoding an image."""

    def read(self, indices) -> list[tuple[np.ndarray, int]]:
        """Returns the decoded image, uint8 [H, W, C], and the label (0 where unlabelled) for each index."""


class StreamingDataset:
    """A data set decoded whenever it is read, by grain's threads."""

    def __init__(self, source: Source):
        self._source = source
        self.num_classes, self.image_shape = source.num_classes, source.image_shape

    def __len__(self):
        return len(self._source)

    @functools.cached_property
    def labels(self):
        return self._source.read_labels()

    def get(self, indices):
        import grain

        # Sixteen at a time: one by one, small images would cost more in grain than in decoding.
        chunks = [indices[start : start + 16] for start in range(0, len(indices), 16)]
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        done = 0
        for examples in grain.MapDataset.source(chunks).map(self._source.read).to_iter_dataset():
            for image, label in examples:
                images[done], labels[done] = image, label
                done += 1
        return images, labels


def open_source(source: Source, directory: Path, most_gb: float = math.inf) -> ArrayDataset | StreamingDataset:
    """Returns the decoded images of `source`, mapped into memory from `directory`, which is filled if it is not there.

    Args:
      directory: gets its name when it is complete, so processes may start, or be killed, at any time.
      most_gb: the disk space, in 10^9 bytes, that the decoded copy may take; a set that needs more is a
        StreamingDataset.
    """
    dataset = StreamingDataset(source)
    if len(dataset) * math.prod(dataset.image_shape) > most_gb * 1e9:
        return dataset
    if not directory.exists():
        with locked(directory.parent):
            if not directory.exists():
                height, width, _ = dataset.image_shape
                announce(f"Decoding {len(dataset):,} images to {width}x{height} (once) ...")
                for abandoned in directory.parent.glob(".decoding-*"):  # by a process that was killed
                    shutil.rmtree(abandoned)
                with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".decoding-") as temporary:
                    _write(dataset, Path(temporary, "complete")).rename(directory)
    images = np.load(directory / "images.npy", mmap_mode="r")
    return ArrayDataset(images, np.load(directory / "labels.npy"), dataset.num_classes)


def _write(dataset: StreamingDataset, directory: Path) -> Path:
    directory.mkdir()
    n = len(dataset)
    images = np.lib.format.open_memmap(directory / "images.npy", "w+", dtype=np.uint8, shape=(n, *dataset.image_shape))
    labels = np.empty(n, np.int32)
    for start in range(0, n, 1024):
        part = np.arange(start, min(start + 1024, n))
        images[part], labels[part] = dataset.get(part)
    images.flush()
    np.save(directory / "labels.npy", labels)
    return directory
