"""Stacked digits, one image, and folders of them."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.core.errors import ConfigError
from jaxgan.data import decoding as decode
from jaxgan.data.digits import StackedDigits, load_digits
from jaxgan.settings import default_config

# ---- Stacked digits


@pytest.mark.parametrize("split", ["train", "test"])
def test_stacked_digits_are_what_their_labels_say(split):
    images, classes = load_digits(held_out=split == "test")
    class_of = {image.tobytes(): c for image, c in zip(images, classes, strict=True)}
    stacked, labels = StackedDigits(split, 8).get(np.arange(300))
    digits = [[class_of[image[..., channel].tobytes()] for channel in range(3)] for image in stacked]
    assert np.array_equal(np.array(digits) @ [100, 10, 1], labels)


def test_stacked_digits_are_fixed():
    """Image i depends on i alone, and never changes: a run could not be resumed otherwise."""
    stacked = StackedDigits("train", 16)
    assert stacked.image_shape == (16, 16, 3)
    assert (stacked.num_classes, len(stacked)) == (1000, 50_000)
    images, labels = stacked.get(np.arange(1000))
    some = np.array([999, 3, 3, 500])
    again, again_labels = StackedDigits("train", 16).get(some)
    assert np.array_equal(again, images[some])
    assert np.array_equal(again_labels, labels[some])
    assert labels[:6].tolist() == [263, 808, 372, 519, 164, 433]
    assert StackedDigits("test", 16).get(np.arange(6))[1].tolist() == [152, 20, 432, 701, 964, 357]


def test_stacked_digits_are_uniform():
    """Chi-square of the 50,000 labels against 1,000 equal modes: 999 degrees of freedom, deviation sqrt(2 * 999)."""
    count = np.bincount(StackedDigits("train", 8).get(np.arange(50_000))[1], minlength=1000)
    assert abs(np.sum((count - 50.0) ** 2 / 50.0) - 999) < 4 * np.sqrt(2 * 999)


def test_digits_have_the_full_range_and_are_held_out():
    (train, _), (test, classes) = load_digits(False), load_digits(True)
    assert (len(train), len(test)) == (1442, 355)
    assert (train.min(), train.max(), train.dtype) == (0, 255, np.uint8)
    assert set(np.bincount(classes)) == {34, 35, 36}
    assert not {x.tobytes() for x in train} & {x.tobytes() for x in test}


def test_stacked_digits_settings():
    config = default_config().data
    config.name, config.split = "stacked_digits", "validation"
    with pytest.raises(ConfigError, match=r"config.data.split='validation': .* train, test"):
        data.load(config)
    config.split, config.image_size = "train", 128
    with pytest.raises(ConfigError, match=r"config\.data\.image_size=128"):
        data.load(config)
    config.image_size = 8
    config.eval_split = "all"
    with pytest.raises(ConfigError, match=r"config\.data\.eval_split='all'"):
        data.load_held_out(config)


# ---- One image


def png(array, **options) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", **options)
    return file


def test_an_image_of_the_right_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(decode.decode(png(image), 16, 3), image)


def test_crop_is_central_and_shrinking_is_antialiased():
    image = np.full((16, 48, 3), 255, np.uint8)
    image[:, 16:32] = np.indices((16, 16)).sum(axis=0)[..., None] % 2 * 200  # a checkerboard of 0 and 200
    shrunk = decode.decode(png(image), 4, 3)
    assert shrunk.shape == (4, 4, 3)
    assert np.abs(shrunk.astype(int) - 100).max() <= 3


def test_grey_palette_and_transparent_images_become_rgb():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(decode.decode(png(grey), 8, 3), np.stack([grey] * 3, axis=-1))
    assert np.array_equal(decode.decode(png(grey), 8, 1), grey[..., None])
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, 3] = 255  # opaque black above, transparent black below
    result = decode.decode(png(rgba), 8, 3)
    assert result[:4].max() == 0
    assert result[4:].min() == 255
    file = io.BytesIO()
    Image.fromarray(rgba).convert("P").save(file, "png", transparency=b"\x00" * 256)
    assert decode.decode(file, 8, 3).min() == 255


def test_exif_rotation_is_applied():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: the left half is on top
    assert decode.decode(png(image, exif=exif), 8, 3)[:4].min() == 255


def test_sixteen_bits_are_refused():
    with pytest.raises(ValueError, match="8 bits"):
        decode.decode(png(np.full((8, 8), 1000, np.uint16)), 8, 3)


# ---- Folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A config for tmp_path/images, which has two classes and every format."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in ("b/2.png", "b/deep/1.JPG", "a/3.webp", "a/.hidden.png", "b/notes.txt"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            path.write_text("not an image")
        else:
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(path)
    config = default_config().data
    config.name, config.dir, config.image_size = "folder", str(tmp_path / "images"), 8
    return config


def test_folder(folder, capsys):
    dataset = data.load(folder)
    images, labels = dataset.get(np.array([2, 0, 1]))
    root = Path(folder.dir)
    expected = [decode.decode(root / name, 8, 3) for name in ("b/deep/1.JPG", "a/3.webp", "b/2.png")]
    assert np.array_equal(images, expected)
    assert labels.tolist() == [1, 0, 1]
    assert (len(dataset), dataset.num_classes, dataset.image_shape) == (3, 2, (8, 8, 3))
    assert data.load_held_out(folder) is None
    assert "Decoding 3 images" in capsys.readouterr().err


def test_folder_is_decoded_once_until_a_file_changes(folder, capsys):
    data.load(folder)
    data.load(folder)
    assert capsys.readouterr().err.count("Decoding") == 1
    changed = Path(folder.dir, "b/2.png")
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(changed)
    assert data.load(folder).get(np.array([1]))[0].max() == 7
    folder.image_size = 16
    assert data.load(folder).image_shape == (16, 16, 3)
    assert capsys.readouterr().err.count("Decoding") == 2


def test_what_a_killed_process_leaves_is_cleared_away(folder):
    data.load(folder)
    (decoded,) = Path(os.environ["XDG_CACHE_HOME"]).glob("jaxgan/*/decoded")
    decoded.rename(decoded.parent / ".decoding-killed")
    assert len(data.load(folder).get(np.arange(3))[0]) == 3
    assert sorted(path.name for path in decoded.parent.iterdir()) == [".lock", "decoded"]


def test_folder_on_demand_is_the_same(folder):
    cached = data.load(folder).get(np.arange(3))
    folder.cache_gb = 0.0
    dataset = data.load(folder)
    assert isinstance(dataset, decode.OnDemand)
    for now, before in zip(dataset.get(np.arange(3)), cached, strict=True):
        assert np.array_equal(now, before)


def test_flat_folder_is_unlabelled(folder, tmp_path):
    folder.dir = str(tmp_path / "images" / "a")
    dataset = data.load(folder)
    assert (len(dataset), dataset.num_classes) == (1, 0)
    assert dataset.get(np.array([0]))[1].tolist() == [0]


@pytest.mark.parametrize("cache_gb", [4.0, 0.0])
def test_a_damaged_file_is_named(folder, cache_gb):
    folder.cache_gb = cache_gb
    path = Path(folder.dir, "b", "2.png")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OSError, match=r"b/2\.png is not a readable image"):
        data.load(folder).get(np.arange(3))


def test_folder_settings(folder, tmp_path):
    good = folder.dir
    folder.dir = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"config\.data\.dir=.*nowhere"):
        data.load(folder)
    folder.dir = str(tmp_path / "empty")
    Path(folder.dir).mkdir()
    with pytest.raises(ConfigError, match=r"config\.data\.dir=.*empty.* holds no image"):
        data.load(folder)
    folder.dir = good
    Image.new("RGB", (8, 8)).save(Path(good, "loose.png"))
    with pytest.raises(ConfigError, match=r"a, \.\.\.\).*loose\.png"):
        data.load(folder)
