"""Where images come from: the data sets that `config.data.name` may name, and anyone's files."""

import functools
from collections.abc import Callable
from pathlib import Path

from jaxgan.core.errors import ConfigError, require, require_choice, require_finite, require_whole
from jaxgan.core.files import announce, as_path
from jaxgan.core.shapes import check_image_size, height_width
from jaxgan.data.arrays import LARGEST_LABEL, ArrayDataset, converted
from jaxgan.data.cifar10 import open_cifar10
from jaxgan.data.decoding import NothingReadable, Unreadable, open_source
from jaxgan.data.digits import StackedDigits
from jaxgan.data.image_file import CROPS, check_colour
from jaxgan.data.images import classes_in_words, form_in_words, held_out_in_words, image_source, is_held_out
from jaxgan.data.labels import find_labels
from jaxgan.data.numerals import Numerals
from jaxgan.data.spec import Dataset
from jaxgan.data.stores import check_place, ending, open_store
from jaxgan.data.synthetic import Synthetic
from jaxgan.data.tfds import data_root, find_builder, open_tfds


def open_stacked_digits(data_config, split: str, setting: str) -> Dataset:
    """Opens a split of the 1,000 modes, see `StackedDigits`."""
    return StackedDigits(split, data_config.image_size, setting)


def open_numerals(data_config, split: str, setting: str) -> Dataset:
    """Opens a split of the numerals in colour, see `Numerals`."""
    return Numerals(split, data_config.image_size, setting)


def open_synthetic(data_config, split: str, setting: str) -> Dataset | None:
    """Opens noise of config.data.image_size, see `Synthetic`."""
    if split != data_config.split:
        return None
    channels = 3 if data_config.channels == "auto" else data_config.channels
    return Synthetic((*height_width(data_config.image_size), channels), data_config.num_classes)


def open_own_images(data_config, split: str, setting: str) -> Dataset | None:
    """Opens what is at config.data.dir: a directory, a zip, tars, or an .npz of arrays, which are not resized.

    Without splits of their own, a share of them, config.data.held_out, stands for config.data.eval_split.
    """
    part = "train" if split == data_config.split else "held out"
    if part == "held out" and (split != data_config.eval_split or not data_config.held_out):
        return None
    store = open_store(data_config.dir, "config.data.dir")
    if isinstance(store, Path):
        return _open_arrays(data_config, part)
    options = {key: data_config[key] for key in ("channels", "crop", "alpha", "held_out", "skip_unreadable")}
    size = height_width(data_config.image_size)
    source, directory = image_source(store, "config.data.dir", data_config.dir, size, part=part, **options)
    if source is None:
        return None
    try:
        return open_source(source, directory, data_config.cache_gb, data_config.skip_unreadable)
    except Unreadable as error:
        if isinstance(error, NothingReadable) and part == "held out" and data_config.skip_unreadable:
            announce(f"warning: no image is held out: {error}")
            return None
        advice = "" if data_config.skip_unreadable else "; config.data.skip_unreadable=True leaves them out"
        raise Unreadable(f"{error}{advice}") from error


def _open_arrays(data_config, part: str) -> Dataset | None:
    """Opens a part, "train" or "held out", of the arrays in the file config.data.dir."""
    whole = ArrayDataset.from_npz(data_config.dir, "config.data.dir", alpha=None)
    require(len(whole) > 0, "config.data.dir", data_config.dir, "holds no images")
    height, width, found = whole.image_shape
    if (height, width) != height_width(data_config.image_size):
        raise ConfigError(
            f"config.data.image_size={data_config.image_size}: the images in {data_config.dir} have {width}x{height} "
            "pixels, and arrays are not resized"
        )
    share = data_config.held_out
    chosen = [i for i in range(len(whole)) if is_held_out(str(i), share) == (part == "held out")]
    if not chosen and part == "held out":
        return None
    require(bool(chosen), "config.data.held_out", share, f"leaves none of the {len(whole):,} images to train on")
    channels = {"auto": min(found, 3)}.get(data_config.channels, data_config.channels)
    images = converted(whole.images if len(chosen) == len(whole) else whole.images[chosen], channels, data_config.alpha)
    dataset = ArrayDataset(images, whole.labels[chosen] if whole.num_classes else None, whole.num_classes, alpha=None)
    dataset.facts = {
        "from": f"an npz, {'labels in it' if whole.num_classes else 'no labels'}",
        "taken as": form_in_words(height, width, channels),
    }
    if part == "train" and share:
        dataset.facts["held out"] = held_out_in_words(len(whole) - len(chosen), len(whole), share)
    dataset.facts["classes"] = classes_in_words(dataset.labels, dataset.num_classes)
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
    "numerals": open_numerals,
    "stacked_digits": open_stacked_digits,
    "images": open_own_images,
    "synthetic": open_synthetic,
    "custom": open_custom,
}


def check_source(data_config, conditional: bool = False) -> None:
    """Raises a ConfigError for what keeps `data_config` from naming images, as far as nothing is prepared or decoded.

    Args:
      data_config: the section `config.data`.
      conditional: config.model.conditional, which takes labels; of one's own images it is known by now.
    """
    name, directory = data_config.name, data_config.dir
    check_image_size(data_config.image_size, "config.data.image_size")
    require_finite("config.data.cache_gb", data_config.cache_gb, 0)
    require_choice("config.data.crop", data_config.crop, CROPS)
    channels = data_config.channels
    require(channels in ("auto", 1, 3, 4), "config.data.channels", channels, "choose auto, 1, 3 or 4")
    check_colour(data_config.alpha, "config.data.alpha")
    require_finite("config.data.held_out", data_config.held_out, 0)
    require(data_config.held_out < 1, "config.data.held_out", data_config.held_out, "must be below 1")
    if name == "images":
        check_place(directory, "config.data.dir")
        right = f"the images in {directory} have no labels; set it to False"
        require(not conditional or _has_labels(directory), "config.model.conditional", True, right)
    elif name == "synthetic":
        require_whole("config.data.num_classes", data_config.num_classes, 0, LARGEST_LABEL)
    elif name in ("numerals", "stacked_digits"):
        require(channels in ("auto", 3), "config.data.channels", channels, f"{name} are RGB")
    elif name == "custom":
        open_custom(data_config, data_config.split, "config.data.split")
    elif name == "cifar10":
        data_root(data_config)
    elif name not in DATASETS:
        find_builder(name, tuple(DATASETS), data_root(data_config))


def _has_labels(directory: str) -> bool:
    """Returns whether images of one's own have labels, as far as is known before they are opened."""
    store = open_store(directory, "config.data.dir")
    return isinstance(store, Path) or find_labels(store, "config.data.dir", directory).num_classes > 0


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


def names_images(name: str, setting: str) -> bool:
    """Returns whether `name` is the path of images, as `open_images` takes it, and not the name of a data set."""
    path = as_path(name, setting, local=True)
    return ending(path) in (".npz", ".zip", ".tar") or path.is_dir()


def open_images(path: str, setting: str) -> ArrayDataset:
    """Returns the images at `path`, at least two, all of one size and never resized.

    Args:
      path: a directory, a zip or tars of image files, whose sub-directories are the labels unless there are files of
        labels. Or an .npz, see `ArrayDataset.from_npz`. Grey images stay grey until a feature extractor wants colours,
        which are then three times the grey.
      setting: what `path` came from; with its value it begins the message of a ConfigError.

    Raises:
      ConfigError: there is no such thing, or it holds something else.
      OSError: an image file cannot be read or has another size than the first.
    """
    store = open_store(path, setting)
    if isinstance(store, Path):
        dataset = ArrayDataset.from_npz(path, setting)
    else:
        dataset = open_source(*image_source(store, setting, path, None))
    if len(dataset) < 2:
        raise ConfigError(f"{setting}={path!r}: holds too few images, {len(dataset)}; a score needs at least two")
    return dataset
