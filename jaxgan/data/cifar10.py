"""CIFAR-10 of tensorflow-datasets (tfds), prepared without TensorFlow.

A subclass of tfds's own builder reads the archive with Python's tarfile, also where TensorFlow is installed, and
writes the same images in the same order under the same name and version.
"""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import as_path
from jaxgan.data import tfds as sets
from jaxgan.data.arrays import ArrayDataset
from jaxgan.data.decoding import StreamingDataset

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = URL.rpartition("/")[2]
_ADVICE = (
    f"Without a network: fetch {URL} elsewhere and set config.data.manual_dir to the directory that "
    "holds it. configs/numerals.py needs no download"
)


def open_cifar10(data_config, split: str, setting: str) -> ArrayDataset | StreamingDataset:
    """Opens a split of CIFAR-10, made of the archive in config.data.manual_dir if that is set."""
    root = sets.data_root(data_config)
    manual = data_config.manual_dir
    archive = as_path(manual, "config.data.manual_dir", local=True) / ARCHIVE if manual else None
    cifar10 = _builder_class(archive, data_config.verify_checksum)
    if archive and not data_config.verify_checksum:
        found, official = _checksums(archive)
        if found != official:
            root = root / f"cifar10-{found[:16]}"  # never to be taken for the official images
    builder = sets.prepare(lambda root: cifar10(data_dir=root), root, data_config)
    return sets.open_split(builder, data_config, split, setting)


def _builder_class(archive: Path | None, verify_checksum: bool):
    """Returns tfds's builder of CIFAR-10, except that it needs no TensorFlow; downloads the archive if it is None."""
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
                            f"{URL}, or use it all the same with config.data.verify_checksum=False"
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
    """Returns CIFAR-10's archive by way of tfds, which verifies it."""
    try:
        return dl_manager.download(URL)
    except Exception as error:
        raise RunFailed(f"CIFAR-10 cannot be downloaded ({type(error).__name__}). {_ADVICE}") from error


def _checksums(archive: Path) -> tuple[str, str]:
    """Returns the SHA-256 of the archive, and of the official one."""
    from tensorflow_datasets.image_classification import cifar

    if not archive.is_file():
        raise ConfigError(f"config.data.manual_dir={str(archive.parent)!r}: holds no {archive.name}. {_ADVICE}")
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return found, cifar.Cifar10.url_infos[URL].checksum
