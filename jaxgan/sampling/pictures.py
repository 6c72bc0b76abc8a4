"""Pictures: grids of images, and image files to arrays and back."""

import contextlib
import io
import os
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgan.core.errors import ConfigError, require, require_whole
from jaxgan.core.files import as_path, atomic_write
from jaxgan.core.shapes import ImageSize, height_width
from jaxgan.data.arrays import converted
from jaxgan.data.image_file import Form, decode_image
from jaxgan.data.scan import SUFFIXES, readable_suffixes

COMFORTABLE = 96  # pixels; an image is enlarged until a side has this many


def grid(images: np.ndarray, columns: int, *, pad: int = 2, scale: int | None = None) -> np.ndarray:
    """Lays images out row by row on white, uint8 [rows * (H * scale + pad) + pad, ..., 3].

    Args:
      images: uint8 [N, H, W, C] with C = 1, 3 or 4, where RGBA is laid on white; a last row that they do not fill
        stays white.
      columns: images in a row, if there are as many.
      pad: pixels between images and around them.
      scale: whole factor of enlargement without interpolation; None: until a side has 96 pixels.

    Raises:
      ConfigError: images of another type or shape.
    """
    _check_images(images)
    require_whole("columns", columns, 1)
    images = converted(images, 3)
    count, height, width, _ = images.shape
    columns = min(columns, max(count, 1))
    if scale is None:
        scale = -(-COMFORTABLE // max(height, width))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    cell_y, cell_x = height * scale + pad, width * scale + pad
    canvas = np.full((-(-count // columns) * cell_y + pad, columns * cell_x + pad, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = pad + i // columns * cell_y, pad + i % columns * cell_x
        canvas[y : y + height * scale, x : x + width * scale] = image
    return canvas


def planes(images: np.ndarray) -> np.ndarray:
    """Puts the colour planes of each image side by side in grey: [N, H, W, C] to [N, H, C * W, 1]."""
    count, height, width, channels = images.shape
    return images.transpose(0, 1, 3, 2).reshape(count, height, channels * width, 1)


def with_titles(picture: np.ndarray, titles: Sequence[str], pad: int = 2) -> np.ndarray:
    """Puts a line of words above a grid, each centred over its column and cut to its width.

    Args:
      picture: as `grid` returns it.
      titles: one for each column; accents and characters that Pillow's font does not have are left out.
      pad: pixels around an image, as for `grid`.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, width = ImageFont.load_default(), (picture.shape[1] - pad) / max(len(titles), 1)
    height = sum(font.getbbox("Ag")[1::2]) + 2
    strip = Image.new("RGB", (picture.shape[1], height), "white")
    draw = ImageDraw.Draw(strip)
    for i, title in enumerate(titles):
        title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
        cut = next((n for n in range(len(title), 0, -1) if font.getlength(title[:n]) <= width - 2 * pad), 0)
        draw.text((pad + (i + 0.5) * width, height / 2), title[:cut], fill="black", font=font, anchor="mm")
    return np.concatenate([np.asarray(strip), picture])


def show_grid(images: np.ndarray, columns: int, data_name: str = "", titles: Sequence[str] = ()) -> np.ndarray:
    """Returns the `grid` of images of a data set, as a person can read them: digits plane by plane, others as they are.

    Args:
      images: uint8 [N, H, W, C].
      columns: images in a row.
      data_name: config.data.name.
      titles: what stands above the columns, if anything.
    """
    if data_name == "stacked_digits":  # three digits on top of each other
        picture = grid(planes(images), columns, scale=max(1, 48 // images.shape[1]))
    else:
        picture = grid(images, columns)
    return with_titles(picture, titles) if titles else picture


def save_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes an image, uint8 [H, W, 1, 3 or 4], whole or not at all; the directory is made if need be."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format="PNG")
    path = as_path(path, local=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, buffer.getvalue())


def save_images(
    path: str | os.PathLike,
    images: np.ndarray,
    columns: int,
    data_name: str = "",
    titles: Sequence[str] = (),
    **arrays: np.ndarray,
) -> None:
    """Writes images, uint8 [N, H, W, C], as the ending of the path says; the directory is made if need be.

    FILE.png holds what `show_grid` makes of them, FILE.npz the array `images` and the further `arrays`, and a path
    without an ending is a directory with a PNG for each image.

    Raises:
      ConfigError: another ending, or images of another type or shape; nothing was written.
    """
    given, path = path, as_path(path, local=True)
    check_suffix(given)
    _check_images(images)
    if path.suffix == ".png":
        save_png(path, show_grid(images, columns, data_name, titles))
    elif path.suffix == ".npz":
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=images, **arrays)
    else:
        for i, image in enumerate(images):
            save_png(path / f"{i:06d}.png", image)


def check_suffix(path: str | os.PathLike, setting: str = "path", other: str = "") -> None:
    """Raises a ConfigError that names `setting` unless `save_images` writes to such a path.

    `other` says what would be right too, such as ", or a film".
    """
    right = f"name a FILE.png, a FILE.npz or a directory (without a dot){other}"
    require(Path(path).suffix in ("", ".png", ".npz"), setting, str(path), right)


def _check_images(images: np.ndarray) -> None:
    is_array = isinstance(images, np.ndarray)
    if not is_array or images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3, 4):
        found = f"{images.dtype} {list(images.shape)}" if is_array else type(images).__name__
        raise ConfigError(f"images={found}: must be a NumPy array, uint8 [N, H, W, 1, 3 or 4]")
    require(images.size > 0, "images", list(images.shape), "there are none")


def read_images(path: str | os.PathLike, size: ImageSize, channels: int) -> np.ndarray:
    """Reads one image file, or those of a directory by name, as uint8 [n, H, W, channels].

    Images of another size are cropped to their middle and resized.

    Raises:
      ConfigError: there is no such file, the directory holds no image, or one cannot be read or is so large (89 million
        pixels) that Pillow takes it for a decompression bomb.
    """
    path = as_path(path, local=True)
    require(path.exists(), "path", str(path), "there is no such file or directory")
    suffixes = readable_suffixes()
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in suffixes) if path.is_dir() else [path]
    require(bool(files), "path", str(path), f"holds no image ({', '.join(SUFFIXES)})")
    form, images = Form(*height_width(size), channels), []
    for file in files:
        with _reading(f"path={str(file)!r}"):
            images.append(decode_image(file, form))
    return np.stack(images)


def read_picture(path: Path) -> np.ndarray:
    """Returns a picture as it is, uint8 [H, W, 3]; raises a ConfigError where it cannot be read."""
    from PIL import Image

    with _reading(str(path)), Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@contextlib.contextmanager
def _reading(what: str):
    """Turns whatever goes wrong with a picture into a ConfigError that begins with `what`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            yield
    except Exception as error:  # Pillow's decoders raise many types
        reason = "its format is not known" if isinstance(error, UnidentifiedImageError) else error
        raise ConfigError(f"{what}: is no picture that can be read: {reason}") from error
