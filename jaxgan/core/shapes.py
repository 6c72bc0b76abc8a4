"""The size of images: a whole number of pixels, of square ones, or height and width."""

from collections.abc import Iterable

from jaxgan.core.errors import is_whole, require

ImageSize = int | tuple[int, int]

LEAST_BASE, LARGEST_BASE = 3, 16  # pixels, of a side of the map that doublings begin from


def check_image_size(size, setting: str) -> None:
    """Raises a ConfigError that names `setting` unless `size` is one."""
    right = "must be a whole number, 1 or above, or two of them, height and width, such as (64, 128)"
    pair = isinstance(size, tuple) and len(size) == 2 and all(is_whole(side, 1) for side in size)
    require(pair or is_whole(size, 1), setting, size, right)


def height_width(size: ImageSize) -> tuple[int, int]:
    """Returns height and width.

    Example:
      >>> height_width(32), height_width((64, 128))
      ((32, 32), (64, 128))
    """
    return tuple(size) if isinstance(size, tuple | list) else (size, size)


def as_image_size(height: int, width: int) -> ImageSize:
    """Returns the size of images of this height and width: one number where they are square."""
    return height if height == width else (height, width)


def size_in_words(size: ImageSize) -> str:
    """Returns a size as people write it, width first.

    Example:
      >>> size_in_words((64, 128))
      '128x64'
    """
    height, width = height_width(size)
    return f"{width}x{height}"


def doubled_map(size: ImageSize, squares: Iterable[int]) -> tuple[int, tuple[int, int]] | None:
    """Returns the size of the square that begins from 4x4 and is doubled as often, and the map that is doubled.

    The map is as small as can be, with sides of 3 to 16 pixels; for the sizes in `squares` it is 4x4, as published.

    Args:
      size: of the images.
      squares: the sizes of square images, powers of two, whose number of doublings there may be.

    Returns:
      None where there is no such map.

    Example:
      >>> doubled_map(64, (16, 32, 64)), doubled_map((64, 128), (16, 32, 64))
      ((64, (4, 4)), (64, (4, 8)))
      >>> doubled_map((96, 160), (16, 32, 64)), doubled_map((96, 160), (64, 128)), doubled_map(33, (16, 32, 64))
      ((64, (6, 10)), (128, (3, 5)), None)
    """
    height, width = height_width(size)
    for square in sorted(squares, reverse=True):
        scale = square // 4
        base = height // scale, width // scale
        whole = height % scale == width % scale == 0
        if whole and all(LEAST_BASE <= side <= LARGEST_BASE for side in base):
            return square, base
    return None


def squares_in_words(sizes: Iterable[int], stages: bool) -> str:
    """Returns which sizes work, given those of square images and whether others do too, by `doubled_map`.

    Example:
      >>> squares_in_words((16, 32), False)
      'squares of 16, 32'
      >>> squares_in_words((16, 32), True)
      '16, 32, and where both sides are one power of two in 4 .. 8 times 3 to 16'
    """
    sizes = sorted(sizes)
    gapless = len(sizes) > 2 and sizes[-1] - sizes[0] == len(sizes) - 1
    listed = f"{sizes[0]} to {sizes[-1]}" if gapless else ", ".join(map(str, sizes))
    if not stages:
        return f"squares of {listed}"
    powers = f"{sizes[0] // 4} .. {sizes[-1] // 4}"
    return f"{listed}, and where both sides are one power of two in {powers} times {LEAST_BASE} to {LARGEST_BASE}"
