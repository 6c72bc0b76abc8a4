"""What a directory of pictures holds: its image files in natural order, and an account of all others."""

import collections
import os
import re
from pathlib import Path
from typing import NamedTuple

from PIL import features

# Formats that Pillow decodes by itself, by the ending of a file. It reads further ones (PDF, EPS, PSD, ...), which are
# no pictures, need other programs, or lose what is in them.
SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif", ".avifs",
)  # fmt: skip
OPTIONAL = {".webp": "webp", ".jp2": "jpg_2000", ".avif": "avif", ".avifs": "avif"}  # what Pillow may be built without
NEEDS = {".heic": "pip install pillow-heif", ".webp": "a Pillow with WebP", ".jp2": "a Pillow with JPEG 2000"}
NEEDS |= {".heif": NEEDS[".heic"], ".avif": "a Pillow with AVIF", ".avifs": "a Pillow with AVIF"}
ADVICE = {suffix: f"needs {what}" for suffix, what in NEEDS.items()}
ADVICE |= dict.fromkeys((".psd", ".raw", ".dng", ".cr2", ".nef", ".arw", ".svg", ".jxl", ".exr"), "save it as PNG")
LABEL_FILES = ("dataset.json", "labels.csv")  # at the root; jaxgan/data/labels.py reads them
OUTPUTS = {"samples", "checkpoints", "tensorboard", "curves.png"}  # what a run writes beside its config.json


class Scan(NamedTuple):
    """The files below a directory."""

    images: dict[str, os.stat_result]  # by name, with "/", in natural order; links are followed
    passed_over: dict[str, int]  # how many entries are not read, by reason


def natural(name: str) -> tuple:
    """Returns a key that sorts names by the numbers in them.

    Example:
      >>> sorted(["10", "2", "b", "a10", "a9"], key=natural)
      ['2', '10', 'a9', 'a10', 'b']
    """
    parts = re.split("([0-9]+)", name)
    digits = [part.lstrip("0") for part in parts[1::2]]
    parts[1::2] = [(len(part), part) for part in digits]  # in the order of the numbers, of any length
    return parts, name


def readable_suffixes() -> set[str]:
    """Returns the endings of the image files that can be read here; those of pillow-heif too where it is installed."""
    supported = features.get_supported()  # an older Pillow warns if it is asked for what it does not know
    suffixes = {suffix for suffix in SUFFIXES if suffix not in OPTIONAL or OPTIONAL[suffix] in supported}
    try:
        import pillow_heif
    except ImportError:
        return suffixes
    pillow_heif.register_heif_opener()
    return suffixes | {".heic", ".heif"}


def scan(root: Path) -> Scan:
    """Returns what is below `root`; each directory is read once, however many links lead to it.

    Hidden entries are left out, and so are the directories of runs, and what a run in `root` itself has written.
    """
    suffixes = readable_suffixes()
    found, passed_over, seen = {}, collections.Counter(), set()
    # Directories of their own first, so that those are not taken for what a link to them is called.
    directories, links = [("", root)], collections.deque()
    while directories or links:
        prefix, path = directories.pop() if directories else links.popleft()
        identity = os.stat(path)
        if (identity.st_dev, identity.st_ino) in seen:
            passed_over["linked to twice"] += 1
            continue
        seen.add((identity.st_dev, identity.st_ino))
        with os.scandir(path) as entries:
            entries = {entry.name: entry for entry in entries}
        if _is_run(entries):
            if prefix:
                passed_over["of a run of jaxgan"] += 1
                continue
            for name in OUTPUTS & entries.keys():
                passed_over["of a run of jaxgan"] += 1
                del entries[name]
        for name, entry in entries.items():
            if name.startswith("."):
                passed_over[reason_to_pass_over(name, suffixes)] += 1
            elif entry.is_dir():
                place = (f"{prefix}{name}/", entry.path)
                links.append(place) if entry.is_symlink() else directories.append(place)
            elif not entry.is_file():
                passed_over["a link to nothing" if entry.is_symlink() else "no file"] += 1
            elif (prefix + name) in LABEL_FILES:
                continue
            elif reason := reason_to_pass_over(name, suffixes):
                passed_over[reason] += 1
            else:
                found[prefix + name] = entry.stat()
    order = sorted(found, key=lambda name: [natural(part) for part in name.split("/")])
    return Scan({name: found[name] for name in order}, dict(sorted(passed_over.items())))


def printable(name: str) -> str:
    """Returns a file's name as a terminal can print it, on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def abbreviated(counts: dict[str, int], most: int = 12) -> str:
    """Returns counts by name in words, the first and the last where there are many.

    Example:
      >>> abbreviated({"cat": 1200, "dog": 7})
      'cat (1,200), dog (7)'
    """
    words = [f"{name} ({count:,})" for name, count in counts.items()]
    return ", ".join(words if len(words) <= most else [*words[: most - 2], "...", words[-1]])


def _is_run(entries) -> bool:
    return {"config.json", "data.json"} <= entries.keys() and not {"checkpoints", "metrics.jsonl"}.isdisjoint(entries)


def reason_to_pass_over(name: str, suffixes: set[str]) -> str:
    """Returns why the file of this name, with "/", is not read; "" where it is."""
    suffix = os.path.splitext(name)[1].lower()
    if any(part.startswith(".") for part in name.split("/")):
        return "hidden"
    if suffix in suffixes:
        return ""
    if suffix in ADVICE:
        return f"{suffix} ({ADVICE[suffix]})"
    return f"no image ({suffix})" if suffix else "no image (without an ending)"
