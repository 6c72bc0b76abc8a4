"""A directory of image files, whose labels are in a `dataset.json` or are its sub-directories, or which has none."""

import copy
import json
import os
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from jaxgan.core import files
from jaxgan.core.errors import ConfigError, is_whole, require
from jaxgan.core.files import as_path
from jaxgan.data.arrays import LARGEST_LABEL
from jaxgan.data.decoding import DECODING_VERSION, Unreadable, decode_image
from jaxgan.data.scan import SUFFIXES, abbreviated, natural, printable, scan

SPLITS = {"train", "val", "valid", "validation", "test"}  # names of directories that are no classes


class FolderSource:
    """Image files as RGB.

    Args:
      root: the directory of images.
      names: the files below it, with "/".
      labels: int32 [N], or None.
      class_names: (): none.
      passed_over: how many other files there are, by reason.
      size: pixels; None is the size of the first image, which all of them must have.
    """

    is_checked = False

    def __init__(self, root: Path, names: list[str], labels, class_names, passed_over: dict, size: int | None):
        self._root, self._names, self._passed_over = root, names, passed_over
        self._exact = size is None
        size = size or self._first_size()
        self.image_shape = (size, size, 3)
        self.class_names = tuple(class_names)
        self.num_classes = len(class_names) or (0 if labels is None else int(labels.max()) + 1)
        self._labels = np.zeros(len(names), np.int32) if labels is None else labels

    def __len__(self):
        return len(self._names)

    def facts(self):
        """Returns the classes with the number of their images, and how many files are not read and why."""
        words = {"classes": "none, the images have no labels"}
        if self.num_classes:
            names = self.class_names or tuple(map(str, range(self.num_classes)))
            counts = np.bincount(self._labels, minlength=self.num_classes).tolist()
            words = {"classes": f"{len(names):,}: {abbreviated(dict(zip(names, counts, strict=True)))}"}
        if self._passed_over:
            words["not read"] = passed_over_in_words(self._passed_over)
        return words

    def read_labels(self):
        return self._labels

    def read(self, indices):
        return ((self._image(i), self._labels[i]) for i in indices)

    def without(self, unreadable):
        """Returns the source of the other files; the account has those that are left out."""
        left = copy.copy(self)
        left._names = [name for i, name in enumerate(self._names) if i not in unreadable]
        left._labels = np.delete(self._labels, list(unreadable))
        left._passed_over = self._passed_over | {"unreadable": len(unreadable)}
        return left

    def _image(self, i):
        path = self._root / self._names[i]
        try:
            return decode_image(path, self.image_shape[0], self.image_shape[2], self._exact)
        except Exception as error:  # Pillow's decoders raise many types
            raise Unreadable(f"{path} is not a readable image: {error}") from error

    def _first_size(self) -> int:
        for name in self._names:
            try:
                with Image.open(self._root / name) as image:
                    return image.width
            except Exception:  # decoding will say so, of all files at once
                continue
        return 1


def passed_over_in_words(passed_over: dict[str, int]) -> str:
    """Returns how many files are not read and why, such as "2 hidden, 1 no image (.txt)"."""
    return ", ".join(f"{count:,} {printable(reason)}" for reason, count in passed_over.items())


def image_directory(directory: str, setting: str) -> Path:
    """Returns the full path of a directory, or raises a ConfigError that names `setting` where there is none."""
    right = "there is no such directory; name one of images"
    require(bool(directory), setting, directory, right)
    root = as_path(directory, setting, local=True).resolve()
    require(root.is_dir(), setting, directory, right)
    return root


def has_classes(directory: str, setting: str) -> bool:
    """Returns whether images below `directory` may have labels; no image is looked for."""
    root = image_directory(directory, setting)
    if (root / "dataset.json").is_file():
        return _read_labels(root / "dataset.json") is not None
    with os.scandir(root) as entries:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)


def scan_folder(directory: str, size: int | None, setting: str) -> tuple[FolderSource, Path]:
    """Returns all images below `directory`, in natural order, and where their decoded copy belongs.

    Args:
      directory: see `scan` for what is left out. Where it holds StyleGAN's dataset.json, this has the labels, and the
        images that it does not list are left out; otherwise the sub-directories are the classes.
      size: pixels to crop and resize to; None is the size of the first image, which all of them must have.
      setting: what `directory` came from, for the error.
    """
    root = image_directory(directory, setting)
    found, passed_over = scan(root)
    listed = root / "dataset.json"
    if listed.is_file():
        label_of, class_names = _read_labels(listed), ()
        if label_of is not None:
            if missing := [name for name in label_of if name not in found]:
                raise ConfigError(
                    f"{listed}: {len(missing):,} of the {len(label_of):,} images that it lists are not there, or no "
                    f"images that can be read, such as {printable(missing[0])}"
                )
            if others := len(found) - len(label_of):
                passed_over["beside dataset.json but not in it"] = others
            found = {name: stat for name, stat in found.items() if name in label_of}
    else:
        label_of, class_names = _labels_by_directory(list(found), setting, directory)
    if not found:
        there = passed_over_in_words(passed_over)
        raise ConfigError(
            f"{setting}={directory!r}: holds no image ({', '.join(SUFFIXES)})" + f"; not read: {there}" * bool(there)
        )
    names = list(found)
    labels = None if label_of is None else np.array([label_of[name] for name in names], np.int32)
    # A file that is replaced changes its size or its time, so the folder is decoded again.
    key = [f"{name!a} {stat.st_size} {stat.st_mtime_ns}" for name, stat in found.items()]
    key = [f"{str(root)!a} {size} {DECODING_VERSION}", f"{None if labels is None else zlib.crc32(labels)}", *key]
    decoded = files.keyed_cache_directory("decoded", *key)
    return FolderSource(root, names, labels, class_names, passed_over, size), decoded


def _labels_by_directory(names: list[str], setting: str, directory: str):
    """Returns {name: label}, or None where no image is in a sub-directory, and the names of the classes."""
    first = {name: name.partition("/")[0] for name in names if "/" in name}
    if not first:
        return None, ()
    classes = sorted(set(first.values()), key=natural)
    if loose := next((name for name in names if name not in first), None):
        raise ConfigError(
            f"{setting}={directory!r} has images both in folders, which are classes ({printable(classes[0])}, ...), "
            f"and beside them ({printable(loose)}, ...): keep one kind"
        )
    if SPLITS.issuperset(name.lower() for name in classes):
        raise ConfigError(
            f"{setting}={directory!r}: its directories are called {', '.join(classes)}, like splits, and would become "
            f"classes; name one of them, such as {str(Path(directory, classes[0]))!r}"
        )
    number = {name: i for i, name in enumerate(classes)}
    return {name: number[part] for name, part in first.items()}, tuple(map(printable, classes))


def _read_labels(file: Path) -> dict[str, int] | None:
    """Returns {name: label} of a dataset.json as StyleGAN's tools write it; None where it has no labels."""
    try:
        document = json.loads(file.read_bytes())
        pairs = document["labels"]
        if not pairs:
            return None
        labels = {PurePosixPath(name).as_posix(): label for name, label in pairs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        right = '{"labels": [["00000/img00000.png", 6], ...]} or {"labels": null}'
        raise ConfigError(f"{file}: must hold {right} ({type(error).__name__}: {error})") from error
    if len(labels) < len(pairs):
        raise ConfigError(f"{file}: lists {len(pairs) - len(labels):,} images more than once")
    for name, label in labels.items():
        if not is_whole(label, 0, LARGEST_LABEL):
            raise ConfigError(
                f"{file}: the label of {printable(name)} is {label!r}: must be a whole number, 0 or above"
            )
    return labels
