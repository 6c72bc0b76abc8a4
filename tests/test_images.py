"""Anyone's images: what is accepted as it is, what is converted, and what is refused in one line."""

import numpy as np
import pytest
from PIL import Image

from jaxgan.core.errors import ConfigError
from jaxgan.data import ArrayDataset, open_images


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def saved(path, **arrays):
    np.savez(path / "images.npz", **arrays)
    return str(path / "images.npz")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_npz_as_it_is(tmp_path):
    images, labels = pixels(5, 8, 8, 3), np.array([3, 0, 1, 1, 2])
    for names in (("images", "labels"), ("arr_0", "arr_1")):
        dataset = open_images(saved(tmp_path, **dict(zip(names, (images, labels)))), "--images")
        got, got_labels = dataset.get(np.arange(5))
        np.testing.assert_array_equal(got, images)
        np.testing.assert_array_equal(got_labels, labels)
        np.testing.assert_array_equal(dataset.labels, labels)
        assert dataset.num_classes == 4
    assert open_images(saved(tmp_path, images=images), "--images").num_classes == 0


def test_npz_conversions(tmp_path):
    images = pixels(4, 8, 8, 3)
    np.testing.assert_array_equal(open_images(saved(tmp_path, images=images / 255.0), "x").images, images)
    grey = images[..., 0]
    assert open_images(saved(tmp_path, images=grey), "x").images.shape == (4, 8, 8, 1)
    alpha = np.zeros((4, 8, 8, 1), np.uint8)
    alpha[:, :4] = 255
    on_white = open_images(saved(tmp_path, images=np.concatenate([images, alpha], -1)), "x").images
    np.testing.assert_array_equal(on_white[:, :4], images[:, :4])
    assert (on_white[:, 4:] == 255).all()


def test_arrays_become_a_data_set_in_a_line():
    images = pixels(5, 8, 8, 3)
    dataset = ArrayDataset(images, [2, 0, 1, 1, 0], num_classes=10)
    assert (len(dataset), dataset.image_shape, dataset.num_classes) == (5, (8, 8, 3), 10)
    got, labels = dataset.get(np.array([4, 0]))
    assert (got.dtype, labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(got, images[[4, 0]])
    assert labels.tolist() == [0, 2]
    got[:] = 0  # a copy: the set is as it was
    np.testing.assert_array_equal(dataset.images, images)
    unlabelled = ArrayDataset(images)
    assert (unlabelled.num_classes, unlabelled.labels.tolist()) == (0, [0] * 5)


def test_more_classes_than_are_allowed():
    with pytest.raises(ConfigError, match=r"labels=0\.\.2: must be in 0\.\.1, num_classes=2"):
        ArrayDataset(pixels(3, 8, 8, 3), [0, 1, 2], num_classes=2)
    for names in (["a", "b"], ["a", "a", "b"], "abc", ["a", "b", 3], 7):
        with pytest.raises(ConfigError, match=r"^class_names="):
            ArrayDataset(pixels(3, 8, 8, 3), [0, 1, 2], num_classes=3, class_names=names)
    named = ArrayDataset(pixels(3, 8, 8, 3), [0, 1, 1], class_names=["a", "b", "c"])
    assert (named.num_classes, named.class_names) == (3, ("a", "b", "c"))
    with pytest.raises(ConfigError, match="num_classes=5: labels are not given"):
        ArrayDataset(pixels(3, 8, 8, 3), num_classes=5)


BAD = {
    "channels first": (dict(images=pixels(4, 3, 8, 8)), r"images=uint8\[4, 3, 8, 8\]: give \[N, H, W, C\]"),
    "one image": (dict(images=pixels(1, 8, 8, 3)), "holds too few images, 1;"),
    "no images": (dict(images=pixels(0, 8, 8, 3)), "holds too few images, 0;"),
    "no array": (dict(pictures=pixels(4, 8, 8, 3)), "no array `images` or `arr_0`"),
    "in -1..1": (dict(images=np.linspace(-1, 1, 4 * 192).reshape(4, 8, 8, 3)), r"floats must be in 0\.\.1, .* -1\.\.1"),
    "in 0..255": (dict(images=pixels(4, 8, 8, 3).astype(np.float32)), r"floats must be in 0\.\.1"),
    "not a number": (dict(images=np.full((4, 8, 8, 3), np.nan)), r"floats must be in 0\.\.1"),
    "integers": (dict(images=pixels(4, 8, 8, 3).astype(np.int64)), r"images=int64\[4, 8, 8, 3\]: give uint8"),
    "objects": (dict(images=np.array([{}, {}])), "cannot be read"),
    "labels too few": (
        dict(images=pixels(4, 8, 8, 3), labels=np.zeros(3, int)),
        r"labels=int64\[3\]: give integers, one for each of 4 images",
    ),
    "labels negative": (
        dict(images=pixels(2, 8, 8, 3), labels=np.array([-1, 0])),
        r"labels=-1\.\.0: must be 0 or more",
    ),
    "labels beyond int32": (dict(images=pixels(2, 8, 8, 3), labels=np.array([0, 2**32])), "must be at most 2147483646"),
    "labels beyond int64": (
        dict(images=pixels(2, 8, 8, 3), labels=np.array([0, 2**64 - 1], np.uint64)),
        "labels='0..18446744073709551615': must be at most",
    ),
    "labels that are no classes": (
        dict(images=pixels(2, 8, 8, 3), labels=np.array([0, 10**6])),
        r"labels=0\.\.1000000: makes 1,000,001 classes of 2 images; number them from 0, or give num_classes",
    ),
    "labels not whole": (dict(images=pixels(2, 8, 8, 3), labels=np.array([0.5, 1])), "give integers"),
    "labels one-hot": (dict(images=pixels(4, 8, 8, 3), labels=np.eye(4)), r"labels=float64\[4, 4\]: give integers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_npz(tmp_path, name):
    arrays, message = BAD[name]
    with pytest.raises(ConfigError, match=message) as error:
        open_images(saved(tmp_path, **arrays), "--images")
    assert str(error.value).startswith(f"--images={str(tmp_path / 'images.npz')!r}: ")
    assert "\n" not in str(error.value)


def test_damaged_npz(tmp_path):
    path = saved(tmp_path, images=pixels(4, 8, 8, 3))
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(ConfigError, match="cannot be read"):
        open_images(path, "--images")


def test_directory(tmp_path):
    images = pixels(4, 8, 8, 3)
    for i, image in enumerate(images):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    dataset = open_images(str(tmp_path), "--images")
    np.testing.assert_array_equal(dataset.images, images[[0, 2, 1, 3]])
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1])
    assert dataset.num_classes == 2


def test_directory_of_grey_and_transparent_images_is_rgb(tmp_path):
    grey, colour = pixels(8, 8), pixels(8, 8, 4)
    Image.fromarray(grey).save(tmp_path / "0.png")
    Image.fromarray(colour).save(tmp_path / "1.png")
    images = open_images(str(tmp_path), "--images").images
    np.testing.assert_array_equal(images[0], np.stack([grey] * 3, -1))
    weight = colour[..., 3:] / 255.0
    np.testing.assert_allclose(images[1], colour[..., :3] * weight + 255 * (1 - weight), atol=1.0)


def test_bad_directories(tmp_path):
    with pytest.raises(ConfigError, match="holds no image"):
        open_images(str(tmp_path), "--images")
    with pytest.raises(ConfigError, match=r"--images='.*nowhere': there is no such directory or file"):
        open_images(str(tmp_path / "nowhere"), "--images")
    Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "0.png")
    with pytest.raises(ConfigError, match="holds too few images, 1;"):
        open_images(str(tmp_path), "--images")
    Image.fromarray(pixels(8, 9, 3)).save(tmp_path / "1.png")
    with pytest.raises(OSError, match=r"1.png is not a readable image: 9x8 pixels; all must be of one size"):
        open_images(str(tmp_path), "--images")
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    with pytest.raises(OSError, match=r"1.png is not a readable image"):
        open_images(str(tmp_path), "--images")
    (tmp_path / "0.png").write_bytes(b"not a picture")
    with pytest.raises(OSError, match=r"0.png is not a readable image"):
        open_images(str(tmp_path), "--images")
