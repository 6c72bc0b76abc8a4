"""What a data set is: the protocol, the facts that a recipe needs of it, and a look at images from all over it."""

import zlib
from typing import NamedTuple, Protocol

import numpy as np

from jaxgan.core.errors import ConfigError
from jaxgan.data.decoding import StreamingDataset


class Dataset(Protocol):
    """Images that any number of threads may read in any order.

    Any object with these five members is a data set; it need not inherit from this class. `check_dataset` says what an
    object lacks.
    """

    num_classes: int  # 0: unlabelled
    image_shape: tuple[int, int, int]  # H, W, C
    labels: np.ndarray  # int32 [N] in 0..num_classes - 1, zeros where unlabelled

    def __len__(self) -> int:
        """Returns N, the number of images."""

    def get(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns fresh arrays: the images uint8 [n, H, W, C] and their labels int32 [n] at `indices`, int [n]."""


class DataSpec(NamedTuple):
    """Facts about a data set that the networks and a resumed run depend on.

    `spec._asdict()` is its form in JSON, `DataSpec(**saved)` the way back.
    """

    image_size: int  # pixels; images are square
    channels: int
    num_classes: int  # 0: no labels
    num_images: int
    fingerprint: str  # tells data sets apart, by the number of images and the pixels of up to 256 of them

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> "DataSpec":
        """Returns the facts about `dataset`, once `check_dataset` is satisfied with it.

        Raises:
          ConfigError: the object is no data set, or its images are not square.
        """
        check_dataset(dataset)
        height, width, channels = map(int, dataset.image_shape)
        if height != width:
            raise ConfigError(f"dataset.image_shape={(height, width, channels)}: images must be square")
        fingerprint = f"{len(dataset)} images, {zlib.crc32(subset(dataset)[0].tobytes()):08x}"
        return cls(height, channels, int(dataset.num_classes), len(dataset), fingerprint)


def check_dataset(dataset: Dataset) -> None:
    """Raises a ConfigError that names what keeps `dataset` from being a `Dataset`.

    Reads all labels, and the first and the last image.
    """
    members = ("__len__", "get", "labels", "image_shape", "num_classes")
    if missing := [name for name in members if not hasattr(type(dataset), name) and not hasattr(dataset, name)]:
        raise ConfigError(
            f"dataset={type(dataset).__name__}: lacks {', '.join(missing)}; see Dataset in jaxgan/data/spec.py, or use "
            "ArrayDataset(images, labels)"
        )
    n, shape, classes = len(dataset), tuple(map(int, dataset.image_shape)), max(dataset.num_classes, 1)
    if n < 1:
        raise ConfigError("len(dataset)=0: a data set has one image at least")
    if len(shape) != 3:
        raise ConfigError(f"dataset.image_shape={shape}: must be (H, W, C)")
    ends = np.array([0, n - 1])
    if isinstance(dataset, StreamingDataset):
        return  # its images and labels are ours; to read all labels would take a while
    _check_array("dataset.labels", dataset.labels, (n,), np.integer)
    low, high = np.min(dataset.labels), np.max(dataset.labels)
    if low < 0 or high >= classes:
        raise ConfigError(
            f"dataset.labels={low}..{high}: must be in 0..{classes - 1}, as num_classes={dataset.num_classes}"
        )
    images, labels = dataset.get(ends)
    _check_array("dataset.get(indices)[0]", images, (2, *shape), np.uint8)
    _check_array("dataset.get(indices)[1]", labels, (2,), np.integer)
    if not np.array_equal(labels, np.asarray(dataset.labels)[ends]):
        raise ConfigError(
            f"dataset.get(indices)[1]={np.asarray(labels).tolist()} for the indices {ends.tolist()}: must be the "
            f"labels there, {np.asarray(dataset.labels)[ends].tolist()}"
        )


def _check_array(what: str, array, shape: tuple[int, ...], kind) -> None:
    if np.shape(array) != shape or not np.issubdtype(np.asarray(array).dtype, kind):
        found = f"{np.asarray(array).dtype} {list(np.shape(array))}"
        raise ConfigError(f"{what}={found}: must be {kind.__name__} {list(shape)}")


def subset(dataset: Dataset, most: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Returns up to `most` images and labels from all over the set, since sorted sets have one class at a time."""
    return dataset.get(evenly_spaced(len(dataset), most))


def evenly_spaced(n: int, most: int) -> np.ndarray:
    """Returns up to `most` indices, evenly spaced over 0 .. n - 1, int [min(most, n)]."""
    return np.linspace(0, n - 1, min(most, n)).astype(int)
