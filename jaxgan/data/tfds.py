"""Image sets of tensorflow-datasets (tfds), with or without TensorFlow.

tfds reads sets in its format array_record without TensorFlow, but needs it to prepare most of them.
"""

import contextlib
import functools
import io
import logging
import os
import shlex
import shutil
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxgan.core import files
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import as_path
from jaxgan.core.shapes import height_width, size_in_words
from jaxgan.core.words import nearest
from jaxgan.data.arrays import ArrayDataset
from jaxgan.data.decoding import DECODING_VERSION, StreamingDataset, open_source
from jaxgan.data.image_file import Form, decode_image

_TAKES_TENSORFLOW = "that takes TensorFlow, once; to read it afterwards does not (pip install tensorflow-cpu)"


class TfdsSource:
    """A split of a prepared set. tfds hands out the encoded images, so that decoding is ours alone."""

    is_checked = True  # by the one who prepared it

    def __init__(self, records, features: dict, form: Form, directory: Path):
        self._records, self._form, self._directory = records, form, directory
        label = features.get("label")
        self.num_classes = label.num_classes if label else 0
        names = tuple(label.names) if label else ()
        self.class_names = () if names == tuple(map(str, range(len(names)))) else names  # tfds numbers nameless classes
        self.image_shape = form[:3]

    def __len__(self):
        return len(self._records)

    def facts(self):
        return {}

    def read_labels(self):
        labels = np.zeros(len(self), np.int32)
        if self.num_classes:
            for start in range(0, len(self), 256):  # the encoded images come along: not all of them at once
                part = range(start, min(start + 256, len(self)))
                with intact(self._directory):
                    labels[part] = [record["label"] for record in self._records.__getitems__(list(part))]
        return labels

    def read(self, indices):
        with intact(self._directory):
            records = self._records.__getitems__([int(i) for i in indices])
            for i, record in zip(indices, records, strict=True):
                image = decode_image(io.BytesIO(record["image"]), self._form, str(i))
                yield image, record["label"] if self.num_classes else 0


@contextlib.contextmanager
def intact(directory: Path):
    """Makes one line of what tfds raises where it reads a prepared set, such as what Riegeli says of its records."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if not directory.exists():
            raise
        remedy = f"remove it, and it is prepared again: rm -r {shlex.quote(str(directory))}"
        raise OSError(f"the prepared set {directory} is damaged ({_first_line(error)}); {remedy}") from error


def open_tfds(
    data_config, split: str, setting: str, other_names: tuple[str, ...] = ()
) -> ArrayDataset | StreamingDataset:
    """Opens a split of the set `data_config.name`; prepared and decoded once.

    Args:
      data_config: the section `config.data`.
      split: in tfds's syntax, such as train[:25%].
      setting: what `split` came from, for the error.
      other_names: names of data sets that are not tfds's, to hint at where one is misspelt.
    """
    build = functools.partial(find_builder, data_config.name, other_names)
    return open_split(prepare(build, data_root(data_config), data_config), data_config, split, setting)


def open_split(builder, data_config, split: str, setting: str) -> ArrayDataset | StreamingDataset:
    """Opens a split of a prepared set; its decoded copy is beside the set, or in the cache if that is read-only."""
    import tensorflow_datasets as tfds

    types = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    with intact(Path(builder.data_dir)):
        features = {k: v for k, v in builder.info.features.items() if isinstance(v, types.get(k, ()))}
    if "image" not in features:
        names = ", ".join(builder.info.features)
        raise ConfigError(
            f"config.data.name={data_config.name!r}: not a set of images, which have `image`, but {names}"
        )
    with intact(Path(builder.data_dir)):
        try:
            records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            len(records)
        except ValueError as error:
            choices = ", ".join(builder.info.splits)
            raise ConfigError(f"{setting}={split!r}: {data_config.name} has the splits {choices}") from error
    size, channels = data_config.image_size, data_config.channels
    usual = Form(*height_width(size), 1 if features["image"].shape[-1] == 1 else 3)
    form = Form(*usual[:2], usual.channels if channels == "auto" else channels, data_config.crop, data_config.alpha)
    unusual = [str(value) for value, other in zip(form, usual, strict=True) if value != other]
    parts = [
        split,
        f"{size}px" if usual.height == usual.width else size_in_words(size),
        *unusual,
        f"v{DECODING_VERSION}",
    ]
    name = "-".join(urllib.parse.quote(part, safe="") for part in parts)
    directory = Path(builder.data_dir, name)
    if not directory.exists() and not os.access(builder.data_dir, os.W_OK):
        directory = files.keyed_cache_directory("decoded", str(directory))
    source = TfdsSource(records, features, form, Path(builder.data_dir))
    return open_source(source, directory, data_config.cache_gb)


def data_root(data_config) -> Path:
    """Returns the directory that tfds keeps its sets in."""
    import tensorflow_datasets as tfds

    if data_config.dir:
        return as_path(data_config.dir, "config.data.dir", local=True)
    usual = Path(os.path.expanduser(tfds.core.constants.DATA_DIR))
    return usual if usual.is_absolute() else files.cache_directory(usual.name)  # this user has no home


def prepare(build: Callable, root: Path, data_config):
    """Returns the builder of a set that is on disk in a format with random access; prepares the set if need be.

    Args:
      build: makes the set's builder, given the directory of sets.
      root: that directory.
      data_config: the section `config.data`.
    """
    import tensorflow_datasets as tfds

    name = data_config.name.partition("/")[0].partition(":")[0]
    with intact(root / name):
        builder = build(root)
        formats = builder.info.available_file_formats()
    if builder.data_path.exists() and not formats & tfds.core.FileFormat.with_random_access():
        root = root / "array_record"  # tfrecord, which only TensorFlow reads, is in its place
        with intact(root / name):
            builder = build(root)
    if not builder.data_path.exists():
        with files.locked(root):
            builder = build(root)  # another process may have prepared it meanwhile
            if not builder.data_path.exists():
                path = Path(builder.data_dir)
                for abandoned in path.parent.glob(f"incomplete.*_{path.name}"):  # by a process that was killed
                    shutil.rmtree(abandoned)
                files.announce(f"Preparing {data_config.name} in {root} (once) ...")
                _download_and_prepare(builder, data_root(data_config) / "downloads", data_config)
    return builder


def find_builder(name: str, other_names: tuple[str, ...], root: Path):
    """Returns tfds's builder of the set `name`, or raises a ConfigError with the nearest names.

    Args:
      name: as config.data.name has it.
      other_names: as for `open_tfds`.
      root: the directory of sets.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=root)
    except ImportError as error:
        if "tensorflow" not in str(error):
            raise
        raise ConfigError(f"config.data.name={name!r}: {_TAKES_TENSORFLOW}") from error
    except ValueError as error:
        known = [*tfds.list_builders(with_community_datasets=False), *other_names]
        missing = f"{_first_line(error).rstrip('.')}{nearest(name, known)}"
        right = "one of your own must be in jaxgan.DATASETS first"
        raise ConfigError(f"config.data.name={name!r}: {missing}; {right}") from error


def _download_and_prepare(builder, downloads: Path, data_config) -> None:
    """Downloads and writes the set, quietly; whatever goes wrong becomes one line."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = 3  # tfds's own 10 are three minutes of silence on a machine without a network
    options = tfds.download.DownloadConfig(manual_dir=data_config.manual_dir or None, try_download_gcs=False)
    tfds.disable_progress_bar()
    retries = logging.getLogger("urllib3.connectionpool")
    level = retries.level
    retries.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=downloads, download_config=options, file_format="array_record")
    except (ConfigError, RunFailed):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {_first_line(error)}"
        if isinstance(error, ImportError) and "tensorflow" in str(error):
            message = _TAKES_TENSORFLOW
        raise ConfigError(f"config.data.name={data_config.name!r}: cannot be prepared: {message}") from error
    finally:
        retries.setLevel(level)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
