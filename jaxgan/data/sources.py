"""Where images come from: the data sets that `config.data.name` may name, and anyone's files."""

import functools
from collections.abc import Callable

from jaxgan.core.errors import ConfigError, require, require_finite, require_whole
from jaxgan.core.files import as_path
from jaxgan.data.arrays import ArrayDataset, npz_file
from jaxgan.data.cifar10 import open_cifar10
from jaxgan.data.decoding import Unreadable, open_source
from jaxgan.data.digits import StackedDigits
from jaxgan.data.folder import has_classes, image_directory, scan_folder
from jaxgan.data.spec import Dataset
from jaxgan.data.tfds import data_root, find_builder, open_tfds


def open_stacked_digits(data_config, split: str, setting: str) -> Dataset:
    """Opens a split of the 1,000 modes, see `StackedDigits`."""
    return StackedDigits(split, data_config.image_size, setting)


def open_folder(data_config, split: str, setting: str) -> Dataset | None:
    """Opens the images below config.data.dir, whose sub-directories are the classes; resized, decoded once."""
    if split != data_config.split:
        return None
    source, directory = scan_folder(data_config.dir, data_config.image_size, "config.data.dir")
    try:
        return open_source(source, directory, data_config.cache_gb, data_config.skip_unreadable)
    except Unreadable as error:
        advice = "" if data_config.skip_unreadable else "; config.data.skip_unreadable=True leaves them out"
        raise Unreadable(f"{error}{advice}") from error


def open_npz(data_config, split: str, setting: str) -> Dataset | None:
    """Opens the arrays in the file config.data.dir, see `ArrayDataset.from_npz`; they are not resized."""
    if split != data_config.split:
        return None
    dataset = ArrayDataset.from_npz(data_config.dir, "config.data.dir")
    height, width, _ = dataset.image_shape
    if (height, width) != (data_config.image_size,) * 2:
        raise ConfigError(
            f"config.data.image_size={data_config.image_size}: the images in {data_config.dir} have {width}x{height} "
            "pixels, and arrays are not resized"
        )
    return dataset


def open_custom(data_config, split: str, setting: str) -> None:
    """Raises a ConfigError: a data set object that was given to `train` cannot be opened again by a name."""
    raise ConfigError(
        "config.data.name='custom': this run is trained on a data set object; give it to jaxgan.train again, or its "
        "images to jaxgan.evaluate (as a command: --reals=FILE.npz)"
    )


# Functions that open the data set of that config.data.name; any other name is looked up in tensorflow-datasets. Each
# takes the section `config.data`, the split, and the setting that the split came from, which an error names, and
# returns a Dataset. One without splits stands whole for config.data.split and returns None for any other split, so it
# is never taken for held-out data. To add one:
#     def open_mine(data_config, split, setting):
#         return ArrayDataset.from_npz(f"{data_config.dir}/{split}.npz", setting)
#     jaxgan.DATASETS["mine"] = open_mine
DATASETS: dict[str, Callable[..., Dataset | None]] = {
    "cifar10": open_cifar10,
    "stacked_digits": open_stacked_digits,
    "folder": open_folder,
    "npz": open_npz,
    "custom": open_custom,
}


def check_source(data_config, conditional: bool = False) -> None:
    """Raises a ConfigError for what keeps `data_config` from naming images, as far as nothing is prepared or decoded.

    Args:
      data_config: the section `config.data`.
      conditional: config.model.conditional, which takes labels; only of a folder it is known by now if there are any.
    """
    name, directory = data_config.name, data_config.dir
    require_whole("config.data.image_size", data_config.image_size, 1)
    require_finite("config.data.cache_gb", data_config.cache_gb, 0)
    if name == "folder":
        image_directory(directory, "config.data.dir")
        right = f"the images in {directory} have no labels; set it to False"
        require(not conditional or has_classes(directory, "config.data.dir"), "config.model.conditional", True, right)
    elif name == "npz":
        npz_file(directory, "config.data.dir")
    elif name == "custom":
        open_custom(data_config, data_config.split, "config.data.split")
    elif name == "cifar10":
        data_root(data_config)
    elif name not in DATASETS:
        find_builder(name, tuple(DATASETS), data_root(data_config))


def _open(data_config, split: str, setting: str) -> Dataset | None:
    check_source(data_config)
    opener = DATASETS.get(data_config.name, functools.partial(open_tfds, other_names=tuple(DATASETS)))
    return opener(data_config, split, setting)


def load(data_config, split: str | None = None) -> Dataset:
    """Returns the data set that `data_config.name` names, prepared and decoded if this is the first time.

    Args:
      data_config: the section `config.data`.
      split: None is `data_config.split`.

    Raises:
      ConfigError: there is no such data set or split.
      OSError: an image file cannot be read.
    """
    setting = "config.data.split" if split is None else "split"
    split = data_config.split if split is None else split
    dataset = _open(data_config, split, setting)
    if dataset is None:
        raise ConfigError(f"{setting}={split!r}: the data set {data_config.name!r} has no splits")
    return dataset


def load_held_out(data_config) -> Dataset | None:
    """Returns the split `data_config.eval_split`; None if that is "" or the data set has no splits."""
    if not data_config.eval_split:
        return None
    return _open(data_config, data_config.eval_split, "config.data.eval_split")


def open_images(path: str, setting: str) -> ArrayDataset:
    """Returns the images at `path`, at least two, all of one size and never resized.

    Args:
      path: a directory of image files, see `scan_folder`; its sub-directories are the labels. Or an .npz, see
        `ArrayDataset.from_npz`. Grey images stay grey until a feature extractor wants colours, which are then three
        times the grey.
      setting: what `path` came from; with its value it begins the message of a ConfigError.

    Raises:
      ConfigError: there is no such thing, or it holds something else.
      OSError: an image file cannot be read or has another size than the first.
    """
    file = as_path(path, setting, local=True)
    if file.suffix == ".npz" and file.is_file():
        dataset = ArrayDataset.from_npz(path, setting)
    elif file.is_dir():
        dataset = open_source(*scan_folder(path, None, setting))
    else:
        raise ConfigError(f"{setting}={path!r}: name a directory of images or a FILE.npz")
    if len(dataset) < 2:
        raise ConfigError(f"{setting}={path!r}: holds {len(dataset)} image(s); a score needs two at least")
    return dataset
