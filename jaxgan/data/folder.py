"""A directory of image files; its sub-directories, if it has any, are the classes."""

import contextlib
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgan.core import files
from jaxgan.core.errors import ConfigError, require
from jaxgan.data.decoding import DECODING_VERSION, decode_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class FolderSource:
    """Image files as RGB; the first part of a name is the class.

    Args:
      root: the directory of images.
      names: the files below it, with "/".
      size: pixels; None is the size of the first image, which all of them must have.
      setting: what `root` came from, for the error.
    """

    def __init__(self, root: Path, names: list[str], size: int | None, setting: str):
        self._root, self._names = root, names
        self._exact = size is None
        if self._exact:
            with _readable(root / names[0]) as path, Image.open(path) as image:
                size = image.width
        self.image_shape = (size, size, 3)
        classes = sorted({name.split("/")[0] for name in names if "/" in name})
        loose = [name for name in names if "/" not in name]
        if classes and loose:
            raise ConfigError(
                f"{setting}={str(root)!r} has images both in folders, which are classes ({classes[0]}, ...), "
                f"and beside them ({loose[0]}, ...): keep one kind"
            )
        number = {name: i for i, name in enumerate(classes)}
        self.num_classes = len(classes)
        self._labels = np.array([number.get(name.split("/")[0], 0) for name in names], np.int32)

    def __len__(self):
        return len(self._names)

    def read_labels(self):
        return self._labels

    def read(self, indices):
        return [(self._image(i), self._labels[i]) for i in indices]

    def _image(self, i):
        with _readable(self._root / self._names[i]) as path:
            return decode_image(path, self.image_shape[0], self.image_shape[2], self._exact)


@contextlib.contextmanager
def _readable(path: Path):
    try:
        yield path
    except Exception as error:  # Pillow's decoders raise many types
        raise OSError(f"{path} is not a readable image: {error}") from error


def image_directory(directory: str, setting: str) -> Path:
    """Returns the full path of a directory, or raises a ConfigError that names `setting` where there is none."""
    root = Path(directory).expanduser().resolve()
    require(bool(directory) and root.is_dir(), setting, directory, "there is no such directory; name one of images")
    return root


def scan_folder(directory: str, size: int | None, setting: str) -> tuple[FolderSource, Path]:
    """Returns all images below `directory`, sorted by name, and where their decoded copy belongs.

    Args:
      directory: hidden files and directories below it are left out.
      size: pixels to crop and resize to; None is the size of the first image, which all of them must have.
      setting: what `directory` came from, for the error.
    """
    root = image_directory(directory, setting)
    found = sorted(path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    hidden = {path for path in found if any(part.startswith(".") for part in path.parts)}
    names = [path.as_posix() for path in found if path not in hidden]
    if not names:
        raise ConfigError(f"{setting}={directory!r}: holds no image ({', '.join(SUFFIXES)})")
    # A file that is replaced changes its size or its time, so the folder is decoded again.
    stats = [(root / name).stat() for name in names]
    key = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in zip(names, stats, strict=True)]
    decoded = files.keyed_cache_directory("decoded", str(root), f"{size} {DECODING_VERSION}", *key)
    return FolderSource(root, names, size, setting), decoded
