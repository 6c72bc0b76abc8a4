"""The labels of image files: from a dataset.json, a labels.csv, a webdataset's .cls files, or the sub-directories."""

import csv
import io
import json
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxgan.core.errors import ConfigError, is_whole
from jaxgan.data.arrays import LARGEST_LABEL, check_largest_label
from jaxgan.data.scan import natural, printable

SPLITS = {"train", "val", "valid", "validation", "test"}  # names of directories that are no classes


class Labels(NamedTuple):
    """The labels of a store."""

    of: dict[int, int] | None  # by the index of a member; others are not in the set. None: there are no labels
    class_names: tuple[str, ...]  # (): none
    origin: str  # where they are from; "": nowhere

    def array(self, indices: list[int]) -> np.ndarray:
        """Returns the labels of some members, int32, zeros where there are none."""
        return np.array([self.of[i] if self.of else 0 for i in indices], np.int32)

    @property
    def num_classes(self) -> int:
        return len(self.class_names) or (max(self.of.values()) + 1 if self.of else 0)


def find_labels(store, setting: str, given: str) -> Labels:
    """Returns the labels of the members of a store, as in jaxgan/data/stores.py.

    Args:
      store: what holds the images.
      setting, given: what names the store, for the error.
    """
    files = store.label_files()
    if len(files) > 1:
        raise ConfigError(f"{setting}={given!r}: has labels in {' and in '.join(files)}; keep one of them")
    for name, content in files.items():
        path = store.root / name
        return _listed(store, path, {"dataset.json": _read_json, "labels.csv": _read_csv}[name](path, content))
    if store.labels:
        if missing := [member.place for i, member in enumerate(store.members) if i not in store.labels]:
            right = f"{len(missing):,} images have no .cls file beside them, such as {printable(missing[0])}"
            raise ConfigError(f"{setting}={given!r}: {right}")
        of, class_names = _numbered({store.members[i].place: label for i, label in store.labels.items()}, store.root)
        return Labels({i: of[member.place] for i, member in enumerate(store.members)}, class_names, ".cls files")
    return _by_directory([member.name for member in store.members], setting, given)


def _listed(store, path: Path, labels: dict[str, int | str] | None) -> Labels:
    """Returns the labels that a file lists by the names of images; None where it has none."""
    if labels is None:
        return Labels(None, (), "")
    indices = {member.name: i for i, member in enumerate(store.members)}
    if missing := [name for name in labels if name not in indices]:
        raise ConfigError(
            f"{path}: {len(missing):,} of the {len(labels):,} images that it lists are not there, or no "
            f"images that can be read, such as {printable(missing[0])}"
        )
    of, class_names = _numbered(labels, path)
    return Labels({i: of[name] for name, i in indices.items() if name in of}, class_names, path.name)


def _numbered(labels: dict[str, int | str], path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Returns labels as integers, and the names of classes: numbers as they are, others in the order of their names.

    They are taken for numbers where more than half of the images have one as their label.

    Args:
      labels: by the names of images.
      path: where they are from, for the error.
    """
    texts = {name: str(label) for name, label in labels.items()}
    if sum(bool(re.fullmatch(r"[+-]?\d+(\.\d*)?", text)) for text in texts.values()) * 2 > len(texts):
        for name, text in texts.items():
            if not (text.isdecimal() and len(text) <= len(str(LARGEST_LABEL)) and int(text) <= LARGEST_LABEL):
                right = f"must be a whole number in 0 .. {LARGEST_LABEL}, like most others; or give names, such as id_7"
                raise ConfigError(f"{path}: the label of {printable(name)} is {_shortened(text)!r}: {right}")
        numbers = {name: int(text) for name, text in texts.items()}
        name = max(numbers, key=numbers.get)
        what = f"{path}: the label of {printable(name)} is {numbers[name]}"
        check_largest_label(numbers[name], len(numbers), what, "number them from 0; names of classes need a letter")
        return numbers, ()
    names = sorted(set(texts.values()), key=natural)
    number = {name: i for i, name in enumerate(names)}
    return {name: number[text] for name, text in texts.items()}, tuple(map(printable, names))


def _shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _by_directory(names: list[str], setting: str, given: str) -> Labels:
    """Returns the first sub-directories as classes; no labels where no image is in one."""
    first = {i: name.partition("/")[0] for i, name in enumerate(names) if "/" in name}
    if not first:
        return Labels(None, (), "")
    classes = sorted(set(first.values()), key=natural)
    if loose := next((name for name in names if "/" not in name), None):
        raise ConfigError(
            f"{setting}={given!r} has images both in folders, which are classes ({printable(classes[0])}, ...), "
            f"and beside them ({printable(loose)}, ...): keep one kind"
        )
    if SPLITS.issuperset(name.lower() for name in classes):
        raise ConfigError(
            f"{setting}={given!r}: its directories are called {', '.join(classes)}, like splits, and would become "
            f"classes; name one of them, such as {str(Path(given, classes[0]))!r}"
        )
    number = {name: i for i, name in enumerate(classes)}
    return Labels({i: number[part] for i, part in first.items()}, tuple(map(printable, classes)), "sub-directories")


def _read_json(path: Path, content: bytes) -> dict[str, int] | None:
    """Returns {name: label} of a dataset.json as StyleGAN's tools write it; None where it has no labels."""
    try:
        document = json.loads(content)
        pairs = document["labels"]
        if not pairs:
            return None
        labels = {PurePosixPath(name).as_posix(): label for name, label in pairs}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        right = '{"labels": [["00000/img00000.png", 6], ...]} or {"labels": null}'
        raise ConfigError(f"{path}: must hold {right} ({type(error).__name__}: {error})") from error
    if len(labels) < len(pairs):
        raise ConfigError(f"{path}: lists {len(pairs) - len(labels):,} images more than once")
    for name, label in labels.items():
        if not is_whole(label, 0, LARGEST_LABEL):
            right = "must be a whole number, 0 or above"
            raise ConfigError(f"{path}: the label of {printable(name)} is {label!r}: {right}")
    return labels


def _read_csv(path: Path, content: bytes) -> dict[str, str]:
    """Returns {name: label} of a file with a line "file,label" for each image, and perhaps one for the columns."""
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: must hold lines such as cat/1.png,3 or cat/1.png,tabby ({error})") from error
    rows = {line: [field.strip() for field in row] for line, row in enumerate(rows, 1) if row}
    if rows.get(1, ["file"])[0].lower() in ("file", "filename", "file_name", "image", "name", "path"):
        rows.pop(1, None)
    labels = {}
    for line, row in rows.items():
        if len(row) != 2 or "" in row:
            raise ConfigError(f"{path}, line {line}: must be the name of an image and its label, cat/1.png,tabby")
        name = PurePosixPath(row[0]).as_posix()
        if name in labels:
            raise ConfigError(f"{path}, line {line}: lists {printable(name)} a second time")
        labels[name] = row[1]
    if not labels:
        raise ConfigError(f"{path}: must hold lines such as cat/1.png,3 or cat/1.png,tabby")
    return labels
