"""Real images: any tfds image set, stacked digits or a folder, and batches that depend on (seed, step) only."""

import math

import numpy as np

from jaxgan.data.batches import Batches, Dataset, epoch_positions
from jaxgan.data.decoding import OnDemand, keep_decoded
from jaxgan.data.digits import StackedDigits
from jaxgan.data.folder import open_folder
from jaxgan.data.images import open_images
from jaxgan.data.tfds import open_tfds

__all__ = ["Batches", "Dataset", "epoch_positions", "load", "load_held_out", "open_images", "some_of", "spread"]


def load(data_config, split: str | None = None) -> Dataset:
    """The set that `config.data` names, prepared and decoded if this is the first time.

    `split` None is `config.data.split`; anything else stands for `config.data.eval_split`. A folder has no
    splits and ignores it. Raises ConfigError for a set that cannot be had, OSError for an image file that
    cannot be read.
    """
    key, split = ("split", data_config.split) if split is None else ("eval_split", split)
    if data_config.name == "stacked_digits":
        return StackedDigits(split, data_config.image_size, key)
    if data_config.name == "folder":
        source, directory = open_folder(data_config.dir, data_config.image_size, "config.data.dir")
    else:
        source, directory = open_tfds(data_config, split, key)
    dataset = OnDemand(source)
    if len(dataset) * math.prod(dataset.image_shape) > data_config.cache_gb * 1e9:
        return dataset
    return keep_decoded(dataset, directory)


def some_of(dataset: Dataset, most: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels from all over the set, since sorted sets have one class at a time."""
    return dataset.get(spread(len(dataset), most))


def spread(n: int, most: int) -> np.ndarray:
    """Up to `most` indices, evenly over 0 .. n - 1."""
    return np.linspace(0, n - 1, min(most, n)).astype(int)


def load_held_out(data_config) -> Dataset | None:
    """The set of `config.data.eval_split`; None if that is "" or the set is a folder, which has no splits."""
    if not data_config.eval_split or data_config.name == "folder":
        return None
    return load(data_config, data_config.eval_split)
