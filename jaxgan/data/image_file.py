"""An image file to an array: which part of it, how large, with which channels.

EXIF rotation is obeyed, palettes and CMYK are converted, and of an animation the first frame is taken. Grey levels of
16 bits become those of 8, round(v / 257); of colours Pillow itself keeps the upper byte. Grey floats in 0 .. 1 become
round(255 v), and others are refused, since nothing says what is white in them. Pillow widens the Lanczos filter when it
shrinks an image, so there is no aliasing.
"""

import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps

from jaxgan.core.errors import ConfigError, require

CROPS = ("center", "random", "none")


class Form(NamedTuple):
    """What becomes of every image file of a set."""

    height: int
    width: int
    channels: int = 3  # 1: grey, 3: RGB, 4: RGBA
    crop: str = "center"  # the largest part of this shape, there or "random", by the name; "none": all, stretched
    alpha: str = "white"  # the colour that transparent images are laid on, unless there are 4 channels
    exact: bool = False  # refuse an image of another size, instead of cropping and resizing it


def decode_image(file, form: Form, name: str = "") -> np.ndarray:
    """Returns an image file as uint8 [height, width, channels].

    Args:
      file: a path or an open file.
      form: what it becomes.
      name: what a random crop depends on, and nothing else.

    Raises:
      ValueError: there is no rule for its pixels, or its size is not that of an exact form. Pillow raises other errors.
    """
    with Image.open(file) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            image = _eight_bits(image)
        if image.has_transparency_data and form.channels != 4:
            image = laid_on(image, form.alpha)
        image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[form.channels])
    size = (form.width, form.height)
    if form.exact and image.size != size:
        raise ValueError(
            f"{image.width}x{image.height} pixels; all must be of one size, such as {form.width}x{form.height}"
        )
    image = image.crop(_box(image.size, form, name)).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(form.height, form.width, form.channels)


def laid_on(image: Image.Image, colour: str) -> Image.Image:
    """Returns a transparent image laid on a colour, in RGB."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("RGB")


def is_grey(image: Image.Image) -> bool:
    """Returns whether an image is grey by what its file says of its pixels, none of which is decoded."""
    if image.mode == "P":
        form = image.palette.rawmode or image.palette.mode  # Pillow 11 keeps what it reads as it is in the file
        palette = np.frombuffer(bytes(image.palette.palette) if form == "RGB" else b"\1\2\3", np.uint8)
        return bool((palette.reshape(-1, 3) == palette.reshape(-1, 3)[:, :1]).all())
    deep = image.mode == "RGBA" and image.tile and image.tile[0][3] == "LA;16B"  # which Pillow decodes as colours
    return deep or image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;")


def check_colour(colour: str, setting: str) -> bool:
    """Returns whether a colour is grey; raises a ConfigError that names `setting` where it is none."""
    try:
        red, green, blue, *alpha = ImageColor.getrgb(colour)
    except (ValueError, AttributeError):
        right = "must be a colour, such as white, black or #ff8000"
        raise ConfigError(f"{setting}={colour!r}: {right}") from None
    require(alpha in ([], [255]), setting, colour, "must be opaque")
    return red == green == blue


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns an image of deeper grey with 8 bits; raises a ValueError where nothing says what is white."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0.0 and high <= 1.0):  # a NaN fails too
            raise ValueError(f"its floats are in {low:.4g} .. {high:.4g}; scale them to 0 .. 1")
        levels = np.rint(255.0 * values)
    else:
        if low < 0 or high > 65535:
            raise ValueError(f"its levels are in {low} .. {high}; only 8 and 16 bits have a known white")
        levels = np.rint(values / 257.0)
    return Image.fromarray(levels.astype(np.uint8))


def _box(size: tuple[int, int], form: Form, name: str) -> tuple[int, int, int, int]:
    """Returns the part of an image that is taken: left, top, right, bottom."""
    if form.crop == "none":
        return (0, 0, *size)
    width = min(size[0], max(1, size[1] * form.width // form.height))
    height = min(size[1], max(1, size[0] * form.height // form.width))
    spare = size[0] - width, size[1] - height
    if form.crop == "center":
        left, top = spare[0] // 2, spare[1] // 2
    else:  # one of the two is 0
        left, top = (zlib.crc32(name.encode("utf-8", "surrogateescape")) * (n + 1) >> 32 for n in spare)
    return left, top, left + width, top + height
