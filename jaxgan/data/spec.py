"""What a data set is: the protocol, the facts that a recipe needs of it, and a look at images from all over it."""

import zlib
from typing import NamedTuple, Protocol

import numpy as np

from jaxgan.core.errors import ConfigError, is_whole, require, require_whole, summary
from jaxgan.core.shapes import ImageSize, as_image_size, height_width
from jaxgan.data.arrays import LARGEST_LABEL, checked_class_names
from jaxgan.data.decoding import StreamingDataset, Unreadable


class Dataset(Protocol):
    """Images that any number of threads may read in any order.

    Any object with these five members is a data set; it need not inherit from this class. `check_dataset` says what an
    object lacks. Two more are optional: `class_names`, a name for each class, and `facts`, {what: in words}, which a
    person should know of the set before training.
    """

    num_classes: int  # 0: unlabelled
    image_shape: tuple[int, int, int]  # H, W, C
    labels: np.ndarray  # int32 [N] in 0..num_classes - 1, zeros where unlabelled

    def __len__(self) -> int:
        """Returns N, the number of images."""

    def get(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns fresh arrays: the images uint8 [n, H, W, C] and their labels int32 [n] at `indices`, int [n]."""


class _Facts(NamedTuple):
    image_size: ImageSize  # pixels of square images, or height and width
    channels: int
    num_classes: int  # 0: no labels
    num_images: int
    fingerprint: str  # tells data sets apart, by the number of images and the pixels of up to 256 of them
    class_names: tuple[str, ...] = ()  # one for each class, or none


class DataSpec(_Facts):
    """Facts about a data set that the networks and a resumed run depend on.

    `spec._asdict()` is its form in JSON, `DataSpec(**saved)` the way back.
    """

    __slots__ = ()

    def __new__(cls, *args, **kwargs):
        size, *facts, class_names = _Facts(*args, **kwargs)
        return super().__new__(cls, as_image_size(*height_width(size)), *facts, tuple(class_names))

    def _asdict(self) -> dict:
        saved = super()._asdict() | {"class_names": list(self.class_names)}
        if isinstance(self.image_size, tuple):
            saved["image_size"] = list(self.image_size)
        return saved

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> "DataSpec":
        """Returns the facts about `dataset`, once `check_dataset` is satisfied with it.

        Raises:
          ConfigError: the object is no data set.
        """
        check_dataset(dataset)
        height, width, channels = map(int, dataset.image_shape)
        fingerprint = f"{len(dataset)} images, {zlib.crc32(subset(dataset)[0].tobytes()):08x}"
        class_names = getattr(dataset, "class_names", ())
        return cls(
            as_image_size(height, width), channels, int(dataset.num_classes), len(dataset), fingerprint, class_names
        )


def require_members(dataset, setting: str = "dataset") -> None:
    """Raises a ConfigError that names what an object lacks of a `Dataset`."""
    members = ("__len__", "get", "labels", "image_shape", "num_classes")
    if missing := [name for name in members if not hasattr(type(dataset), name) and not hasattr(dataset, name)]:
        raise ConfigError(
            f"{setting}={type(dataset).__name__}: lacks {', '.join(missing)}; see Dataset in jaxgan/data/spec.py, or "
            "use ArrayDataset(images, labels)"
        )


def check_dataset(dataset: Dataset, setting: str = "dataset") -> None:
    """Raises a ConfigError that names what keeps `dataset`, which came from `setting`, from being a `Dataset`.

    Reads all labels, and the first and the last image.
    """
    require_members(dataset, setting)
    require(len(dataset) > 0, f"len({setting})", len(dataset), "a data set has one image at least")
    n, shape = len(dataset), dataset.image_shape
    good = isinstance(shape, tuple | list) and len(shape) == 3 and all(is_whole(side, 1) for side in shape)
    require(good, f"{setting}.image_shape", shape, "must be (H, W, C), whole numbers above 0")
    require_whole(f"{setting}.num_classes", dataset.num_classes, 0, LARGEST_LABEL + 1)
    checked_class_names(getattr(dataset, "class_names", ()), dataset.num_classes, f"{setting}.")
    if isinstance(dataset, StreamingDataset):
        return  # its images and labels are ours; to read all labels would take a while
    _check_array(f"{setting}.labels", dataset.labels, (n,), np.integer)
    low, high, last = np.min(dataset.labels), np.max(dataset.labels), max(dataset.num_classes, 1) - 1
    if low < 0 or high > last:
        raise ConfigError(f"{setting}.labels={low}..{high}: must be in 0..{last}, as num_classes={dataset.num_classes}")
    ends = np.array([0, n - 1])
    labels, right = read(dataset, ends, setting)[1], dataset.labels[ends]
    if not np.array_equal(labels, right):
        raise ConfigError(
            f"{setting}.get(indices)[1]={labels.tolist()} for the indices {ends.tolist()}: must be the labels there, "
            f"{right.tolist()}"
        )


def read(dataset: Dataset, indices: np.ndarray, setting: str = "dataset") -> tuple[np.ndarray, np.ndarray]:
    """Returns `dataset.get(indices)`; a ConfigError names what is wrong if they are no such images and labels.

    A data set of someone's own may answer well when it is checked, and badly later; Unreadable names the index of what
    it cannot read.
    """
    found, what = _get(dataset, indices, setting), f"{setting}.get(indices)"
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ConfigError(f"{what}={type(found).__name__}: must be a pair of arrays, images and labels")
    _check_array(f"{what}[0]", found[0], (len(indices), *dataset.image_shape), np.uint8)
    _check_array(f"{what}[1]", found[1], (len(indices),), np.integer)
    return found[0], found[1]


def _get(dataset: Dataset, indices: np.ndarray, setting: str):
    """Returns `dataset.get(indices)`; what it raises becomes an Unreadable that names the index."""
    try:
        return dataset.get(indices)
    except (ConfigError, Unreadable, MemoryError):
        raise
    except Exception as error:
        one, raised = _first_failure(dataset, indices) or (indices, error)
        values = ", ".join(map(str, one[:8])) + ", ..." * (len(one) > 8)
        raise Unreadable(f"{setting}={type(dataset).__name__}: get([{values}]) raises {summary(raised)}") from raised


def _first_failure(dataset: Dataset, indices: np.ndarray) -> tuple[np.ndarray, Exception] | None:
    """Returns the first index that a data set cannot read, int [1], and what it raises; None if it can read each."""
    for i in range(len(indices)):
        try:
            dataset.get(indices[i : i + 1])
        except Exception as error:
            return indices[i : i + 1], error
    return None


def _check_array(what: str, array, shape: tuple[int, ...], kind) -> None:
    is_array = isinstance(array, np.ndarray)
    if not is_array or array.shape != shape or not np.issubdtype(array.dtype, kind):
        found = f"{array.dtype} {list(array.shape)}" if is_array else type(array).__name__
        raise ConfigError(f"{what}={found}: must be a NumPy array, {kind.__name__} {list(shape)}")


def subset(dataset: Dataset, most: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Returns up to `most` images and labels from all over the set, since sorted sets have one class at a time."""
    return read(dataset, evenly_spaced(len(dataset), most))


def evenly_spaced(n: int, most: int) -> np.ndarray:
    """Returns up to `most` indices, evenly spaced over 0 .. n - 1, int [min(most, n)]."""
    return np.linspace(0, n - 1, min(most, n)).astype(int)
