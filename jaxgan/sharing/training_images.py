"""The training images that the explorer compares a picture with, by their pixels."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxgan.data import Dataset, evenly_spaced, read

SEARCHED, COMPARED = 50_000, 32  # images, and pixels of a side


class TrainingImages:
    """Finds the images that differ the least from a picture; `open_dataset` opens the set that they are in."""

    def __init__(self, open_dataset: Callable[[], Dataset]):
        self._open, self._opened = open_dataset, None

    @property
    def is_read(self) -> bool:
        return self._opened is not None

    def read(self) -> Iterator[str]:
        """Reads the images, unless they are read, and yields what is being done, in words."""
        if self.is_read:
            return
        yield "Opening the training images ..."
        dataset = self._open()
        indices, parts = evenly_spaced(len(dataset), SEARCHED), []
        blocks = np.array_split(indices, -(-len(indices) // 1024))
        for i, block in enumerate(blocks):
            yield f"Reading {len(indices):,} training images, once: {i / len(blocks):.0%} ..."
            parts.append(compared(read(dataset, block)[0]))
        self._opened = dataset, indices, np.concatenate(parts)

    def nearest(self, image: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Returns the images nearest to one, uint8 [count, H, W, C], their distances [count], and how many there are.

        A distance is the root mean square of the differences of pixels, 0 .. 255.
        """
        for _ in self.read():
            pass
        dataset, indices, pixels = self._opened
        query = compared(image[None]).astype(np.float32)
        blocks = np.array_split(pixels, -(-len(pixels) // 1024))
        apart = np.concatenate([np.mean((block - query) ** 2, axis=1) for block in blocks]) ** 0.5
        nearest = np.argsort(apart, kind="stable")[:count]
        return read(dataset, indices[nearest])[0], apart[nearest], len(pixels)


def compared(images: np.ndarray) -> np.ndarray:
    """Returns images, uint8 [n, H, W, C], as vectors uint8 [n, d]: their pixels, or means of them in large images.

    Example:
      >>> compared(np.zeros((2, 8, 8, 3), np.uint8)).shape, compared(np.zeros((2, 128, 64, 3), np.uint8)).shape
      ((2, 192), (2, 1536))
    """
    n, height, width, channels = images.shape
    factor = -(-max(height, width) // COMPARED)
    rows, columns = max(1, height // factor), max(1, width // factor)
    images = images[:, : rows * factor, : columns * factor]
    means = images.reshape(n, rows, factor, columns, factor, channels).mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8).reshape(n, -1)
