"""Images in memory: numpy arrays, or an .npz file of them."""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from jaxgan.core.errors import ConfigError, require, require_whole
from jaxgan.core.files import as_path
from jaxgan.data.image_file import check_colour, laid_on

LARGEST_LABEL = 2**31 - 2  # labels are int32, and so is their number
ALWAYS_ALLOWED = 1000  # classes, as many as ImageNet has, however few images there are


class ArrayDataset:
    """A data set of arrays.

    Args:
      images: uint8 [N, H, W, C] or [N, H, W], or floats in 0..1, which are rounded to uint8. C is 1, 3, or 4 (RGBA). A
        uint8 array, such as a memory map, is kept without a copy.
      labels: integers [N] in 0..num_classes - 1; None where there are none.
      num_classes: None is the number of names or, without names, the largest label plus one, or 0 without labels.
      class_names: a name for each class, or nothing.
      alpha: the colour that RGBA is laid on; None: it stays as it is, in four channels.

    Raises:
      ConfigError: the arrays are something else; the message says what they are and what would be right.

    Example:
      >>> dataset = ArrayDataset(np.zeros((5, 32, 32, 3), np.uint8), labels=[0, 1, 2, 1, 0])
      >>> dataset.image_shape, dataset.num_classes
      ((32, 32, 3), 3)
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: ArrayLike | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] = (),
        alpha: str | None = "white",
    ):
        self.images = _checked_images(_array("images", images))
        if alpha is not None and self.images.shape[3] == 4:
            check_colour(alpha, "alpha")
            self.images = converted(self.images, 3, alpha)
        self.facts = {}  # what a person should know of the set before training, {what: in words}
        self.class_names = checked_class_names(class_names, num_classes, "")
        if num_classes is None and self.class_names:
            num_classes = len(self.class_names)
        if num_classes is not None:
            require_whole("num_classes", num_classes, 0, LARGEST_LABEL + 1)
        if labels is None:
            require(not num_classes, "num_classes", num_classes, "labels are not given")
            labels, num_classes = np.zeros(len(self.images), np.int32), 0
        labels = _array("labels", labels)
        if labels.shape != (len(self.images),) or not np.issubdtype(labels.dtype, np.integer):
            raise ConfigError(
                f"labels={labels.dtype}{list(labels.shape)}: give integers, one for each of {len(self.images)} images"
            )
        low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, -1)
        require(high <= LARGEST_LABEL, "labels", f"{low}..{high}", f"must be at most {LARGEST_LABEL}")
        if num_classes is None:
            check_largest_label(high, len(labels), f"labels={low}..{high}", "number them from 0, or give num_classes")
        self.num_classes = high + 1 if num_classes is None else num_classes
        if low < 0 or high >= max(self.num_classes, 1):
            allowed = f"in 0..{num_classes - 1}, num_classes={num_classes}" if num_classes else "0 or more"
            raise ConfigError(f"labels={low}..{high}: must be {allowed}")
        self.labels = labels.astype(np.int32)
        self.image_shape = self.images.shape[1:]

    @classmethod
    def from_npz(cls, path: str | os.PathLike, setting: str = "path", alpha: str | None = "white") -> "ArrayDataset":
        """Returns the data set in an .npz file: `images` (or `arr_0`), and `labels` (or `arr_1`) if there are any.

        Args:
          path: the file.
          setting: what `path` came from; with its value it begins the message of an error.
          alpha: see `ArrayDataset`.

        Raises:
          ConfigError: the file cannot be read, or its arrays are none that `ArrayDataset` takes.
        """
        given, path = f"{setting}={str(path)!r}", npz_file(path, setting)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                images, labels = (
                    next((arrays[name] for name in names if name in arrays), None)
                    for names in (("images", "arr_0"), ("labels", "arr_1"))
                )
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{given}: cannot be read: {error}") from error
        if images is None:
            raise ConfigError(f"{given}: holds no array `images` or `arr_0`")
        try:
            return cls(images, labels, alpha=alpha)
        except ConfigError as error:
            raise ConfigError(f"{given}: {error}") from error

    def __len__(self):
        return len(self.images)

    def get(self, indices: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        return np.take(self.images, indices, axis=0), np.take(self.labels, indices)


def check_largest_label(label: int, images: int, what: str, right: str) -> None:
    """Raises a ConfigError where a label, which makes classes of all numbers below it, is no number of a class.

    Such are the numbers of people or of products: nets and tables of so many classes would fill the memory.

    Args:
      label: the largest one.
      images: how many there are.
      what: begins the message of the error.
      right: ends it: what to do instead.
    """
    if label >= max(ALWAYS_ALLOWED, 10 * images):
        raise ConfigError(f"{what}: makes {label + 1:,} classes of {images:,} images; {right}")


def checked_class_names(names, num_classes: int | None, prefix: str) -> tuple[str, ...]:
    """Returns the names of classes; a ConfigError names `prefix`class_names where they are none."""
    right = "give a list of different names, one for each class"
    is_list = isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(n, str) for n in names)
    require(is_list and len(set(names)) == len(names), f"{prefix}class_names", names, right)
    fits = not names or num_classes is None or len(names) == num_classes
    require(fits, f"{prefix}class_names", f"{len(names)} names", f"there are {num_classes} classes")
    return tuple(names)


def npz_file(path, setting: str) -> Path:
    """Returns the path of a file of arrays, or raises a ConfigError that names `setting` where there is no file."""
    right = "there is no such file; name a FILE.npz of images"
    require(bool(path), setting, path, right)
    file = as_path(path, setting, local=True)
    require(file.is_file(), setting, str(path), right)
    return file


def _array(name: str, values) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ConfigError(f"{name}={type(values).__name__}: make no array: {error}") from error


def _checked_images(images: np.ndarray) -> np.ndarray:
    """Returns `images` as uint8 [N, H, W, 1, 3 or 4]."""
    given = f"images={images.dtype}{list(images.shape)}"
    if images.ndim == 3:
        if images.shape[2] in (1, 3, 4):
            raise ConfigError(f"{given}: this is one image [H, W, C]; give [N, H, W, C], such as images[None]")
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise ConfigError(f"{given}: give [N, H, W, C] with C = 1, 3 or 4")
    if np.issubdtype(images.dtype, np.floating):
        low, high = images.min(initial=0.0), images.max(initial=0.0)
        if not (low >= 0.0 and high <= 1.0):  # a NaN fails too
            raise ConfigError(f"{given}: floats must be in 0..1, these are in {low:.3g}..{high:.3g}; or give uint8")
        images = np.rint(images * 255.0).astype(np.uint8)
    if images.dtype != np.uint8:
        raise ConfigError(f"{given}: give uint8, or floats in 0..1")
    return images


def converted(images: np.ndarray, channels: int, alpha: str = "white") -> np.ndarray:
    """Returns images uint8 [N, H, W, C] with 1, 3 or 4 channels, as Pillow converts them.

    Args:
      alpha: the colour that RGBA is laid on, unless it is to stay.
    """
    if images.shape[3] == channels:
        return images
    result = np.empty((*images.shape[:3], channels), np.uint8)
    for i, image in enumerate(images):
        image = Image.fromarray(image[..., 0] if images.shape[3] == 1 else image)
        image = laid_on(image, alpha) if images.shape[3] == 4 else image
        result[i] = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).reshape(result.shape[1:])
    return result
