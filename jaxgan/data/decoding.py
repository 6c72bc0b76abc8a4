"""Image files to uint8 arrays, once: the result is kept on disk.

An image whose size is not `image_size` is cropped to its central square and resized with the Lanczos
filter, which Pillow widens when it shrinks an image (no aliasing). EXIF rotation is applied, transparency
is laid on white. A set that is too large to keep decoded is decoded when needed, to the same bits.
"""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from jaxgan.core.files import locked, say

VERSION = 1  # of what `decode` makes of a file: part of the name of what is kept on disk


def decode(file, size: int, channels: int, exact: bool = False) -> np.ndarray:
    """One image file (path or open file) as uint8 [size, size, channels]; `channels` is 1 (grey) or 3 (RGB).

    With `exact` it is a ValueError to have another size; otherwise the image is cropped and resized.
    """
    with Image.open(file) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"pixels of type {image.mode}; only 8 bits a channel are supported")
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
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
    image_shape: tuple[int, int, int]

    def __len__(self) -> int: ...

    def labels(self) -> np.ndarray:
        """All labels, int32 [N], without decoding an image."""

    def read(self, indices) -> list[tuple[np.ndarray, int]]:
        """The image, uint8 [H, W, C], and the label (0 where unlabelled) of each index."""


class Decoded:
    """A set decoded to arrays: images uint8 [N, H, W, C], labels int32 [N]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, num_classes: int):
        self.images, self.labels, self.num_classes = images, labels, num_classes
        self.image_shape = images.shape[1:]

    def __len__(self):
        return len(self.images)

    def get(self, indices):
        return np.take(self.images, indices, axis=0), np.take(self.labels, indices)


class OnDemand:
    """A set decoded while it is read, by grain's threads."""

    def __init__(self, source: Source):
        self._source = source
        self.num_classes, self.image_shape = source.num_classes, source.image_shape

    def __len__(self):
        return len(self._source)

    @functools.cached_property
    def labels(self):
        return self._source.labels()

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


def keep_decoded(dataset: OnDemand, directory: Path) -> Decoded:
    """The whole set, decoded into `directory` unless it is there, and mapped into memory.

    The directory gets its name when it is complete, so processes may start, or be killed, at any time.
    """
    if not directory.exists():
        with locked(directory.parent):
            if not directory.exists():
                height, width, _ = dataset.image_shape
                say(f"Decoding {len(dataset):,} images to {width}x{height} (once) ...")
                for abandoned in directory.parent.glob(".decoding-*"):  # by a process that was killed
                    shutil.rmtree(abandoned)
                with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".decoding-") as temporary:
                    _write(dataset, Path(temporary, "complete")).rename(directory)
    images = np.load(directory / "images.npy", mmap_mode="r")
    return Decoded(np.asarray(images), np.load(directory / "labels.npy"), dataset.num_classes)


def _write(dataset: OnDemand, directory: Path) -> Path:
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
