"""The size of images: a whole number of pixels, of square ones, or height and width."""

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


def doublings(size: ImageSize) -> tuple[int, tuple[int, int]] | None:
    """Returns how often a small map is doubled to images of this size, and the map's height and width; None: it is not.

    The map is as small as can be from 3 pixels on, and its sides have 16 at most. That of squares of 2^k pixels, from 8
    on, is 4x4, as published.

    Example:
      >>> doublings(64), doublings((64, 128)), doublings((96, 160)), doublings(33)
      ((4, (4, 4)), (4, (4, 8)), (5, (3, 5)), None)
    """
    height, width = height_width(size)
    count = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 2 * LEAST_BASE:
        height, width, count = height // 2, width // 2, count + 1
    good = count and min(height, width) >= LEAST_BASE and max(height, width) <= LARGEST_BASE
    return (count, (height, width)) if good else None
