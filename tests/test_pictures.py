"""Grids to the pixel, and image files."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxgan.core.errors import ConfigError
from jaxgan.sampling.pictures import grid, planes, read_images, save_images, save_png, show_grid


def images(count, height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, height, width, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_geometry_to_the_pixel(channels):
    x = images(5, 4, 6, channels)
    canvas = grid(x, columns=3, pad=2, scale=3)
    np.testing.assert_array_equal(grid(x, columns=10**9), grid(x, columns=len(x)))
    assert canvas.shape == (2 * (12 + 2) + 2, 3 * (18 + 2) + 2, 3)
    expected = np.full_like(canvas, 255)
    for n in range(5):
        for row in range(12):
            for column in range(18):
                y, left = 2 + (n // 3) * 14 + row, 2 + (n % 3) * 20 + column
                expected[y, left] = x[n, row // 3, column // 3]
    np.testing.assert_array_equal(canvas, expected)


def test_titles_stand_above_their_columns():
    x = images(8, 32, 32, 3)
    titles = ["cat", "a name that is much too long to be shown", "", "\u72ac"]
    picture, below = show_grid(x, 4, titles=titles), grid(x, 4)
    strip = picture[: len(picture) - len(below)]
    np.testing.assert_array_equal(picture[len(strip) :], below)
    ink = [(strip[:, 98 * i + 2 : 98 * (i + 1)] < 128).any(axis=(0, 2)) for i in range(4)]
    assert [bool(columns.any()) for columns in ink] == [True, True, False, False]
    assert abs(np.flatnonzero(ink[0]).mean() - 47.5) < 3
    assert (strip[:, 98::98] == 255).all()
    assert (strip[[0, -1]] == 255).all()


def test_grid_without_padding_is_a_reshape():
    x = images(6, 8, 8, 3)
    expected = x.reshape(2, 3, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(16, 24, 3)
    np.testing.assert_array_equal(grid(x, columns=3, pad=0, scale=1), expected)


@pytest.mark.parametrize(("size", "shown"), [(8, 96), (28, 112), (32, 96), (64, 128), (96, 96), (256, 256)])
def test_grid_enlarges_small_images_only(size, shown):
    assert grid(images(1, size, size, 1), columns=1, pad=0).shape == (shown, shown, 3)


@pytest.mark.parametrize(
    "x", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 2), np.uint8), [1]]
)
def test_grid_refuses_what_is_not_a_batch_of_images(x):
    with pytest.raises(ValueError, match=r"^images=.*: must be a NumPy array, uint8"):
        grid(x, columns=1)


def test_transparent_images_are_laid_on_white_in_a_grid_and_kept_in_a_file(tmp_path):
    images = np.zeros((1, 2, 2, 4), np.uint8)
    images[0, 0, :, 3] = 255  # opaque black above, nothing below
    picture = grid(images, 1, pad=0, scale=1)
    assert picture.tolist() == [[[0] * 3] * 2, [[255] * 3] * 2]
    save_png(tmp_path / "x.png", images[0])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), images[0])


def test_save_png_is_lossless_and_leaves_no_temporary_file(tmp_path):
    image = images(1, 20, 30, 3)[0]
    save_png(tmp_path / "samples/0001.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "samples/0001.png")), image)
    assert len(list((tmp_path / "samples").iterdir())) == 1


def test_planes_stand_side_by_side():
    x = images(2, 4, 5, 3)
    for channel in range(3):
        np.testing.assert_array_equal(planes(x)[:, :, 5 * channel : 5 * channel + 5, 0], x[..., channel])


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_files_are_read_back(tmp_path, channels):
    x = images(3, 8, 8, channels)
    save_images(tmp_path / "pngs", x, 2)
    np.testing.assert_array_equal(read_images(tmp_path / "pngs", 8, channels), x)
    np.testing.assert_array_equal(read_images(tmp_path / "pngs/000001.png", 8, channels), x[1:2])
    save_images(tmp_path / "new/arrays.npz", x, 2, labels=np.arange(3))
    with np.load(tmp_path / "new/arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], x)
        np.testing.assert_array_equal(arrays["labels"], np.arange(3))
    save_images(tmp_path / "grid.png", x, 2)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), grid(x, 2))


@pytest.mark.parametrize(
    ("path", "x", "columns", "message"),
    [
        ("foo.gif", images(2, 8, 8, 3), 2, r"^path='.*foo\.gif': name a FILE\.png, a FILE\.npz or a directory"),
        ("foo.v2/", images(2, 8, 8, 3), 2, r"^path='.*foo\.v2': name a FILE\.png"),
        ("foo.png", images(2, 8, 8, 3), 0, r"^columns=0: must be a whole number, 1 or above"),
        ("foo", np.zeros((2, 8, 8, 3)), 2, r"^images=float64 \[2, 8, 8, 3\]: must be a NumPy array, uint8"),
        ("foo.npz", [1, 2], 2, r"^images=list: must be a NumPy array, uint8"),
    ],
)
def test_what_is_not_saved_leaves_nothing_behind(tmp_path, path, x, columns, message):
    with pytest.raises(ConfigError, match=message):
        save_images(tmp_path / path, x, columns)
    assert not list(tmp_path.iterdir())


def png_of(side: int) -> bytes:
    """Returns a whole PNG of black and white, small on disk however large it is."""
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a text", "its format is not known"),
        (b"", "its format is not known"),
        (png_of(1000)[:100], "image file is truncated"),
        (png_of(10_000), "Image size .100000000 pixels. exceeds limit"),
    ],
    ids=["text", "empty", "cut", "huge"],
)
def test_what_is_no_picture(content, reason, tmp_path, recwarn):
    (tmp_path / "mine.png").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^path='.*mine\.png': is no picture that can be read: {reason}"):
        read_images(tmp_path / "mine.png", 8, 3)
    assert not recwarn.list


def test_a_directory_without_images(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        read_images(tmp_path, 8, 3)
