"""Grids of samples as small pictures: the PNGs of a workdir, at the size that their images have, as data URIs."""

import base64
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.core.errors import ConfigError
from jaxgan.core.files import announce
from jaxgan.sampling import pictures

PAD = 2  # pixels between the images of a grid, as `pictures.grid` draws it
MAX_SIDE = 1024  # pixels of a picture; beyond it images are shrunk
MAX_FRAMES = 96  # more steps than a slider needs
QUALITY = 88  # of WebP: above it the size doubles and nobody sees it


class Cells(NamedTuple):
    """Where the images of a grid are: `columns` in a row, each of so many pixels as the generator made it."""

    columns: int
    height: int
    width: int


def read_picture(path: Path) -> np.ndarray | None:
    """Returns a picture, uint8 [H, W, 3]; None, and a warning, where it cannot be read: a report does without it."""
    try:
        return pictures.read_picture(path)
    except ConfigError as error:
        announce(f"warning: {error}; the report leaves it out")
        return None


def read_cells(path: Path, cells: Cells) -> np.ndarray | None:
    """Returns the images of a grid side by side, uint8 [rows * height, columns * width, 3]; None for no such grid.

    A grid that was drawn with another config.sample.grid has another layout.
    """
    if (picture := read_picture(path)) is None:
        return None
    scale, rest = divmod((picture.shape[1] - PAD) - cells.columns * PAD, cells.columns * cells.width)
    if scale < 1 or rest:
        return None
    cell_y, cell_x = cells.height * scale + PAD, cells.width * scale + PAD
    rows = (picture.shape[0] - PAD) // cell_y
    picture = picture[picture.shape[0] - rows * cell_y :]  # titles are above
    blocks = picture[:, PAD:].reshape(rows, cell_y, cells.columns, cell_x, 3)
    images = blocks[:, : cells.height * scale : scale, :, : cells.width * scale : scale]
    return images.reshape(rows * cells.height, cells.columns * cells.width, 3)


def to_webp(picture: np.ndarray, lossless: bool = False) -> bytes:
    """Returns a picture, uint8 [H, W, 3], as WebP; one that is too large is shrunk by a whole factor."""
    from PIL import Image

    image = Image.fromarray(picture)
    image = image.reduce(max(1, -(-max(image.size) // MAX_SIDE)))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=20 if lossless else QUALITY, method=1)
    return buffer.getvalue()


def data_uri(webp: bytes) -> str:
    """Returns a picture as an address that holds all of it."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


@functools.lru_cache(maxsize=2 * MAX_FRAMES)
def _encoded(path: Path, changed: int, cells: Cells, lossless: bool) -> bytes:
    picture = read_cells(path, cells)
    return b"" if picture is None else to_webp(picture, lossless)


def encode(path: Path, cells: Cells, lossless: bool = False) -> bytes:
    """Returns a grid's file as WebP, b"" for another layout; what was returned lately is remembered."""
    return _encoded(path, path.stat().st_mtime_ns, cells, lossless)


def choose(paths: Sequence[Path], cells: Cells, budget: float) -> list[tuple[Path, bytes]]:
    """Returns evenly spaced grids and the last one, with their pictures, of at most `budget` bytes (or one grid).

    The pictures are exact if that fits. The distance of grids is a power of two, so that a grid is encoded once though
    others join it later.
    """
    stride, lossless = 1, True
    while len(paths) > stride * MAX_FRAMES:
        stride *= 2
    while True:
        pictures, size = [], 0
        for path in dict.fromkeys([*paths[::stride], *paths[-1:]]):
            if picture := encode(path, cells, lossless):
                pictures.append((path, picture))
                size += len(picture)
            if size > budget:
                break
        else:
            return pictures
        if stride >= len(paths):
            return [(paths[-1], picture)] if (picture := encode(paths[-1], cells)) else []
        stride, lossless = stride if lossless else 2 * stride, False
