"""Image sets of tensorflow-datasets, with or without TensorFlow.

tfds reads sets in its format array_record without TensorFlow, but needs it to prepare most of them. CIFAR-10
it does not: a subclass of tfds's own builder reads the archive with Python's tarfile, also where TensorFlow
is installed, and writes the same images in the same order under the same name and version.
"""

import contextlib
import difflib
import functools
import hashlib
import io
import logging
import os
import tarfile
import urllib.parse
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgan.core import files
from jaxgan.core.errors import ConfigError
from jaxgan.data import decoding as decode

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_ARCHIVE = CIFAR10_URL.rpartition("/")[2]
_ADVICE = (
    f"Without a network: fetch {CIFAR10_URL} elsewhere and set config.data.manual_dir to the directory that "
    "holds it. configs/digits.py needs no download"
)


class TfdsSource:
    """A split of a prepared set. tfds hands out the encoded images, so that decoding is ours alone."""

    def __init__(self, records, features: dict, size: int):
        self._records = records
        self.num_classes = features["label"].num_classes if "label" in features else 0
        self.image_shape = (size, size, 1 if features["image"].shape[-1] == 1 else 3)

    def __len__(self):
        return len(self._records)

    def labels(self):
        labels = (self._records[i]["label"] if self.num_classes else 0 for i in range(len(self)))
        return np.fromiter(labels, np.int32, len(self))

    def read(self, indices):
        size, _, channels = self.image_shape
        return [
            (decode.decode(io.BytesIO(record["image"]), size, channels), record["label"] if self.num_classes else 0)
            for record in self._records.__getitems__([int(i) for i in indices])
        ]


def open_tfds(data_config, split: str, key: str) -> tuple[TfdsSource, Path]:
    """A split of a set, prepared if need be, and where it is kept when decoded: beside the prepared set.

    `key` is the setting that `split` came from, for the error.
    """
    import tensorflow_datasets as tfds

    builder = _prepared(data_config)
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    features = {k: v for k, v in builder.info.features.items() if isinstance(v, kinds.get(k, ()))}
    if "image" not in features:
        names = ", ".join(builder.info.features)
        raise ConfigError(
            f"config.data.name={data_config.name!r}: not a set of images, which have `image`, but {names}"
        )
    try:
        records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except ValueError as error:
        choices = ", ".join(builder.info.splits)
        raise ConfigError(f"config.data.{key}={split!r}: {data_config.name} has the splits {choices}") from error
    source = TfdsSource(records, features, data_config.image_size)
    name = f"{urllib.parse.quote(split, safe='')}-{data_config.image_size}px-v{decode.VERSION}"
    beside = Path(builder.data_dir, name)
    if beside.exists() or os.access(builder.data_dir, os.W_OK):
        return source, beside
    return source, files.cache_home("decoded", str(beside))  # the prepared set is shared and read-only


def _prepared(data_config):
    """The builder of a set that is on disk in a format with random access; prepares it if need be."""
    import tensorflow_datasets as tfds

    if "://" in data_config.dir:
        raise ConfigError(f"config.data.dir={data_config.dir!r}: must be a directory of this machine")
    top = Path(data_config.dir or tfds.core.constants.DATA_DIR).expanduser()
    build, root = functools.partial(_find_builder, data_config.name), top
    if data_config.name == "cifar10":
        archive = Path(data_config.manual_dir, CIFAR10_ARCHIVE).expanduser() if data_config.manual_dir else None
        build = _cifar10_class(archive, data_config.verify_checksum)
        if archive and not data_config.verify_checksum:
            found, official = _checksums(archive)
            if found != official:
                root = top / f"cifar10-{found[:16]}"  # never to be taken for the official images

    builder = build(data_dir=root)
    if (
        builder.data_path.exists()
        and not builder.info.available_file_formats() & tfds.core.FileFormat.with_random_access()
    ):
        root = root / "array_record"  # tfrecord, which only TensorFlow reads, is in its place
        builder = build(data_dir=root)
    if not builder.data_path.exists():
        with files.locked(root):
            builder = build(data_dir=root)  # another process may have prepared it meanwhile
            if not builder.data_path.exists():
                files.say(f"Preparing {data_config.name} in {root} (once) ...")
                _prepare(builder, top / "downloads", data_config)
    return builder


def _find_builder(name: str, data_dir: Path):
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except ValueError as error:
        near = difflib.get_close_matches(
            name, [*tfds.list_builders(with_community_datasets=False), "stacked_digits", "folder"]
        )
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ConfigError(f"config.data.name={name!r}: {_first_line(error)}{hint}") from error


def _prepare(builder, downloads: Path, data_config) -> None:
    """Download and write the set, quietly; whatever goes wrong becomes one line."""
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
    except ConfigError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {_first_line(error)}"
        if isinstance(error, ImportError) and "tensorflow" in str(error):
            message = "that takes TensorFlow, once; to read it afterwards does not (pip install tensorflow-cpu)"
        raise ConfigError(f"config.data.name={data_config.name!r}: cannot be prepared: {message}") from error
    finally:
        retries.setLevel(level)


def _cifar10_class(archive: Path | None, verify_checksum: bool):
    """tfds's builder of CIFAR-10, except that it needs no TensorFlow; from `archive`, or downloaded if None."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import cifar

    with tfds.core.registered.skip_registration():

        class Cifar10(cifar.Cifar10):
            """CIFAR-10: the name, version, identifiers and order are inherited."""

            def _split_generators(self, dl_manager):
                path = archive or _download(dl_manager)
                if archive and verify_checksum:
                    found, official = _checksums(archive)
                    if found != official:
                        raise ConfigError(
                            f"{archive} is not the official archive: its sha256 is {found}, not {official}; fetch "
                            f"{CIFAR10_URL}, or use it all the same with config.data.verify_checksum=False"
                        )
                with tarfile.open(path) as tar:
                    files = {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile()}
                self.info.features["label"].names = files["batches.meta.txt"].decode().split()
                train, test = (
                    b"".join(files[name] for name in names)
                    for names in (self._cifar_info.train_files, self._cifar_info.test_files)
                )
                return {
                    "train": self._generate_examples("train_", train),
                    "test": self._generate_examples("test_", test),
                }

            def _generate_examples(self, prefix, records):
                # A record is the label and 32x32 pixels of R, of G, and of B. An image goes to tfds encoded,
                # as PNG, because to encode an array it would call TensorFlow.
                for i, record in enumerate(np.frombuffer(records, np.uint8).reshape(-1, 1 + 3 * 32 * 32)):
                    png = io.BytesIO()
                    Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(png, "png")
                    yield i, {"id": f"{prefix}{i:05d}", "label": int(record[0]), "image": png.getvalue()}

    return Cifar10


def _download(dl_manager) -> Path:
    """CIFAR-10's archive by way of tfds, which verifies it."""
    try:
        return dl_manager.download(CIFAR10_URL)
    except Exception as error:
        raise ConfigError(f"CIFAR-10 cannot be downloaded ({type(error).__name__}). {_ADVICE}") from error


def _checksums(archive: Path) -> tuple[str, str]:
    """SHA-256 of the archive, and of the official one."""
    from tensorflow_datasets.image_classification import cifar

    if not archive.is_file():
        raise ConfigError(f"config.data.manual_dir={str(archive.parent)!r}: holds no {archive.name}. {_ADVICE}")
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return found, cifar.Cifar10.url_infos[CIFAR10_URL].checksum


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
