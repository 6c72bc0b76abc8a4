"""Data sets: what is one, stacked digits, image files and folders of them, and pixels."""

import io
import json
import os
import signal
import threading
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.core import signals
from jaxgan.core.errors import ConfigError
from jaxgan.data import decoding
from jaxgan.data.decoding import Unreadable, open_source
from jaxgan.data.digits import StackedDigits, load_digits
from jaxgan.data.image_file import Form, decode_image
from jaxgan.settings import default_config

# ---- What a data set is


class Plain:
    """A user's own data set, which inherits from nothing of ours."""

    def __init__(self, n=300, num_classes=3, **changes):
        self.images = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8)
        self.labels = np.arange(n) % num_classes if num_classes else np.zeros(n, np.int32)
        self.num_classes, self.image_shape = num_classes, (8, 8, 3)
        vars(self).update(changes)

    def __len__(self):
        return len(self.images)

    def get(self, indices):
        return self.images[indices], self.labels[indices]


def test_spec_of_a_data_set():
    spec = data.DataSpec.from_dataset(Plain())
    assert spec[:4] == (8, 3, 3, 300)
    assert data.DataSpec(**json.loads(json.dumps(spec._asdict()))) == spec
    same = data.ArrayDataset(Plain().images, Plain().labels)
    assert data.DataSpec.from_dataset(same) == spec
    same.images[299] ^= 1
    assert data.DataSpec.from_dataset(same).fingerprint != spec.fingerprint
    assert data.DataSpec.from_dataset(Plain(num_classes=0)).num_classes == 0


BAD = {
    "no labels": (dict(labels=None), r"dataset\.labels=NoneType: must be a NumPy array, integer \[300\]"),
    "too few labels": (
        dict(labels=np.zeros(299, int)),
        r"\.labels=int64 \[299\]: must be a NumPy array, integer \[300\]",
    ),
    "too large a label": (dict(num_classes=2), r"\.labels=0\.\.2: must be in 0\.\.1, as num_classes=2"),
    "other labels": (
        dict(get=lambda i: (np.zeros((len(i), 8, 8, 3), np.uint8), i)),
        r"must be the labels there, \[0, 2\]",
    ),
    "float images": (
        dict(images=np.zeros((300, 8, 8, 3))),
        r"\[0\]=float64 \[2, 8, 8, 3\]: must be a NumPy array, uint8",
    ),
    "another shape": (
        dict(image_shape=(16, 16, 3)),
        r"\[0\]=uint8 \[2, 8, 8, 3\]: must be a NumPy array, uint8 \[2, 16, 16, 3\]",
    ),
    "no channels": (dict(image_shape=(8, 8)), r"image_shape=\(8, 8\): must be \(H, W, C\)"),
    "labels in a list": (dict(labels=[0] * 300), r"dataset\.labels=list: must be a NumPy array, integer \[300\]"),
    "no classes": (dict(num_classes=None), r"^dataset\.num_classes=None: must be a whole number in 0 \.\. 2147483647$"),
    "names of other classes": (
        dict(class_names=("a", "b")),
        r"^dataset\.class_names='2 names': there are 3 classes$",
    ),
    "more classes than int32": (dict(num_classes=2**40), r"^dataset\.num_classes=1099511627776: must be"),
    "classes as text": (dict(num_classes="10"), r"^dataset\.num_classes='10': must be a whole number"),
    "half a class": (dict(num_classes=10.5), r"^dataset\.num_classes=10\.5: must be a whole number"),
    "no image shape": (dict(image_shape=None), r"^dataset\.image_shape=None: must be \(H, W, C\)"),
    "no height": (dict(image_shape=(0, 8, 3)), r"^dataset\.image_shape=\(0, 8, 3\): must be \(H, W, C\)"),
    "gets nothing": (dict(get=lambda i: None), r"^dataset\.get\(indices\)=NoneType: must be a pair of arrays"),
    "gets too much": (dict(get=lambda i: (i, i, i)), r"^dataset\.get\(indices\)=tuple: must be a pair of arrays"),
    "empty": (dict(images=np.zeros((0, 8, 8, 3), np.uint8)), r"len\(dataset\)=0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_data_set(name):
    changes, message = BAD[name]
    dataset = Plain()
    vars(dataset).update(changes)
    with pytest.raises(ConfigError, match=message):
        data.DataSpec.from_dataset(dataset)


def test_no_data_set_at_all():
    with pytest.raises(ConfigError, match=r"dataset=ndarray: lacks get, labels, image_shape, num_classes; .*ArrayData"):
        data.check_dataset(np.zeros((5, 8, 8, 3), np.uint8))


def test_spec_of_rectangles():
    spec = data.DataSpec.from_dataset(data.ArrayDataset(np.zeros((5, 8, 6, 3), np.uint8)))
    assert spec.image_size == (8, 6)
    saved = spec._asdict()
    assert json.loads(json.dumps(saved)) == saved
    assert data.DataSpec(**saved) == spec
    assert data.DataSpec(**(saved | {"image_size": [6, 6]})).image_size == 6


def uint8(*shape):
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(images=uint8(32, 32, 3)),
            r"^images=uint8\[32, 32, 3\]: this is one image \[H, W, C\]; give .*images\[None\]",
        ),
        (dict(images=[uint8(8, 8, 3), uint8(9, 8, 3)]), r"^images=list: make no array: "),
        (dict(images=uint8(2, 8, 8, 3), labels=[[0], [1, 2]]), r"^labels=list: make no array: "),
        (
            dict(images=uint8(2, 8, 8, 3), labels=[0, 1], num_classes=10.5),
            r"^num_classes=10\.5: must be a whole number",
        ),
        (dict(images=uint8(2, 8, 8, 3), labels=[0, 1], num_classes="3"), r"^num_classes='3': must be a whole number"),
        (dict(images=uint8(2, 8, 8, 3), num_classes=-1), r"^num_classes=-1: must be a whole number"),
    ],
)
def test_what_makes_no_data_set(arguments, message):
    with pytest.raises(ConfigError, match=message):
        data.ArrayDataset(**arguments)


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (lambda i: None, r"\(indices\)=NoneType: must be a pair"),
        (
            lambda i: (uint8(len(i), 9, 8, 3), i),
            r"\[0\]=uint8 \[4, 9, 8, 3\]: must be a NumPy array, uint8 \[4, 8, 8, 3\]",
        ),
        (lambda i: (np.zeros((len(i), 8, 8, 3)), i), r"\[0\]=float64 \[4, 8, 8, 3\]: must be a NumPy array, uint8"),
        (lambda i: (uint8(len(i), 8, 8, 3), i / 2), r"\[1\]=float64 \[4\]: must be a NumPy array, integer"),
    ],
)
def test_a_data_set_that_answers_badly_after_its_check(later, message):
    dataset = Plain()
    data.check_dataset(dataset)
    dataset.get = later
    with pytest.raises(ConfigError, match=rf"^dataset\.get.*{message}"):
        data.read(dataset, np.arange(4))


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (lambda i: {}[2] if 2 in i else (uint8(len(i), 8, 8, 3), i), r"\[2\]\) raises KeyError: 2"),
        (
            lambda i: 1 // (len(i) == 1),
            r"\[0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\]\) raises ZeroDivisionError: .*",
        ),  # only together
        (lambda i: Path("/nowhere").stat(), r"\[0\]\) raises FileNotFoundError: \[Errno 2\] No such .*: '/nowhere'"),
    ],
)
def test_what_a_data_set_raises_names_it_and_the_index(later, words):
    dataset = Plain(get=later)
    with pytest.raises(Unreadable, match=rf"^mine=Plain: get\({words}$"):
        data.read(dataset, np.arange(9), "mine")


def test_batches_are_read_with_care():
    recipe = types.SimpleNamespace(batch_size=4, real_batches_per_step=1, image_shape=(8, 8, 3), num_classes=0)
    batches = data.Batches(Plain(get=lambda i: None), recipe, None)
    with pytest.raises(ConfigError, match=r"^dataset\.get\(indices\)=NoneType"):
        next(batches)


BAD_SOURCES = {
    "a misspelt name": (dict(name="imagess"), r"^config\.data\.name='imagess': .*nearest: .*images"),
    "nowhere": (dict(name="images"), r"^config\.data\.dir='': name a directory of images, a FILE\.zip, .*npz$"),
    "another file": (dict(name="images", dir=__file__), r"^config\.data\.dir=.*: name a directory of images, .*npz$"),
    "a home for a file": (dict(name="images", dir="/no.zip"), r"^config\.data\.dir='/no\.zip': there is no such"),
    "grey digits": (dict(name="stacked_digits", channels=1), r"^config\.data\.channels=1: stacked_digits are RGB$"),
    "grey numerals": (dict(name="numerals", channels=1), r"^config\.data\.channels=1: numerals are RGB$"),
    "too few classes": (dict(name="synthetic", num_classes=-1), r"^config\.data\.num_classes=-1: must be a whole num"),
    "half a channel": (dict(channels="grey"), r"^config\.data\.channels='grey': choose auto, 1, 3 or 4$"),
    "glass": (dict(alpha="#ffffff80"), r"^config\.data\.alpha='#ffffff80': must be opaque$"),
    "sets elsewhere": (
        dict(dir="gs://bucket"),
        r"^config\.data\.dir='gs://bucket': must be on this machine",
    ),
    "an object": (dict(name="custom"), r"^config\.data\.name='custom': this run is trained on a data set object"),
    "negative disk space": (dict(cache_gb=-1.0), r"^config\.data\.cache_gb=-1\.0: must be a finite number, 0 or above"),
    "disk space that is none": (
        dict(cache_gb=float("nan")),
        r"^config\.data\.cache_gb=nan: must be a finite number, 0 or above",
    ),
    "negative size": (dict(image_size=-8), r"^config\.data\.image_size=-8: must be a whole number, 1 or above"),
    "three sides": (dict(image_size=(8, 8, 3)), r"^config\.data\.image_size=\(8, 8, 3\): must be .* or two of them"),
    "half a side": (dict(image_size=(8, 0.5)), r"^config\.data\.image_size=\(8, 0\.5\): must be .* or two of them"),
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_what_is_no_source_of_images(name):
    changes, message = BAD_SOURCES[name]
    config = default_config().data
    config.update(changes)
    for check in (data.check_source, data.load):
        with pytest.raises(ConfigError, match=message):
            check(config)


def test_evenly_spaced_indices_reach_both_ends():
    assert data.evenly_spaced(1000, 4).tolist() == [0, 333, 666, 999]
    assert data.evenly_spaced(3, 256).tolist() == [0, 1, 2]
    images, labels = data.subset(Plain(), most=3)
    assert np.array_equal(images, Plain().images[[0, 149, 299]])
    assert labels.tolist() == [0, 2, 2]


def test_a_data_set_of_ones_own_has_a_name(monkeypatch):
    """An opener in DATASETS; one without splits returns None for any but config.data.split."""
    sets = {"first": Plain(10), "second": Plain(20)}
    monkeypatch.setitem(data.DATASETS, "mine", lambda data_config, split, setting: sets.get(split))
    config = default_config().data
    config.name, config.split, config.eval_split = "mine", "first", "second"
    assert data.load(config) is sets["first"]
    assert data.load(config, "second") is data.load_held_out(config) is sets["second"]
    with pytest.raises(ConfigError, match=r"^split='third': the data set 'mine' has no splits"):
        data.load(config, "third")
    config.eval_split = ""
    assert data.load_held_out(config) is None


# ---- Pixels


def test_pixels_survive_the_way_to_float_and_back():
    pixels = np.arange(256, dtype=np.uint8)
    x = data.to_float(pixels)
    assert (float(x[0]), float(x[255])) == (-1.0, 1.0)
    assert np.array_equal(data.to_uint8(x), pixels)
    assert data.to_uint8(np.array([-1.5, 0.0, 0.004, 7.0])).tolist() == [0, 128, 128, 255]


def test_half_of_the_images_are_flipped_each_by_its_own_key():
    images = np.arange(2 * 3 * 2).reshape(1, 2, 3, 2).repeat(1000, axis=0)
    keys = jax.random.split(jax.random.key(0), 1000)
    flipped = np.asarray(data.random_flip(keys, images))
    is_flipped = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.array_equal(flipped[~is_flipped], images[~is_flipped])
    assert abs(is_flipped.mean() - 0.5) < 4 * 0.5 / np.sqrt(1000)
    assert np.array_equal(data.random_flip(keys[7:9], images[7:9]), flipped[7:9])


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
    for size in (128, (8, 16)):
        config.image_size = size
        with pytest.raises(ConfigError, match=r"config\.data\.image_size=.*: stacked_digits takes 8 to 64 pixels"):
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
    assert np.array_equal(decode_image(png(image), Form(16, 16)), image)


def test_crop_is_central_and_shrinking_is_antialiased():
    image = np.full((16, 48, 3), 255, np.uint8)
    image[:, 16:32] = np.indices((16, 16)).sum(axis=0)[..., None] % 2 * 200  # a checkerboard of 0 and 200
    shrunk = decode_image(png(image), Form(4, 4))
    assert shrunk.shape == (4, 4, 3)
    assert np.abs(shrunk.astype(int) - 100).max() <= 3


def test_grey_palette_and_transparent_images_become_rgb():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(decode_image(png(grey), Form(8, 8)), np.stack([grey] * 3, axis=-1))
    assert np.array_equal(decode_image(png(grey), Form(8, 8, 1)), grey[..., None])
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, 3] = 255  # opaque black above, transparent black below
    result = decode_image(png(rgba), Form(8, 8))
    assert result[:4].max() == 0
    assert result[4:].min() == 255
    file = io.BytesIO()
    Image.fromarray(rgba).convert("P").save(file, "png", transparency=b"\x00" * 256)
    assert decode_image(file, Form(8, 8)).min() == 255
    assert decode_image(png(rgba), Form(8, 8, alpha="#204060"))[7, 7].tolist() == [32, 64, 96]
    assert np.array_equal(decode_image(png(rgba), Form(8, 8, 4)), rgba)


def test_exif_rotation_is_applied():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: the left half is on top
    assert decode_image(png(image, exif=exif), Form(8, 8))[:4].min() == 255


def tiff(array) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "tiff")
    return file


@pytest.mark.parametrize(
    ("file", "level"),
    [
        (png(np.full((8, 8), 65535, np.uint16)), 255),
        (png(np.full((8, 8), 257 * 99 + 100, np.uint16)), 99),
        (tiff(np.full((8, 8), 257 * 99 + 200, np.uint16)), 100),
        (tiff(np.full((8, 8), 257 * 7, np.int32)), 7),
        (tiff(np.full((8, 8), 0.4, np.float32)), 102),
    ],
)
def test_levels_of_more_than_eight_bits_are_scaled(file, level):
    assert (decode_image(file, Form(8, 8, 1)) == level).all()
    assert (decode_image(file, Form(8, 8, 3)) == level).all()


@pytest.mark.parametrize("array", [np.uint16([[0, 65535]]), np.float32([[0.0, 1.0]]), np.int32([[0, 65535]])])
def test_exif_rotation_of_deep_pixels(array):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(file, "tiff", exif=exif)
    assert decode_image(file, Form(2, 1, 1))[:, 0, 0].tolist() == [0, 255]


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan, np.inf])
def test_floats_without_a_known_white_are_refused(value):
    array = np.zeros((8, 8), np.float32)
    array[0, 0] = value
    with pytest.raises(ValueError, match=r"^its floats are in .* scale them to 0 \.\. 1$"):
        decode_image(tiff(array), Form(8, 8))


def test_integers_beyond_sixteen_bits_are_refused():
    with pytest.raises(ValueError, match=r"^its levels are in 0 \.\. 65536; only 8 and 16 bits"):
        decode_image(tiff(np.array([[0, 65536]], np.int32)), Form(8, 8))


def test_cmyk_is_converted():
    file = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(file, "jpeg", quality=100)
    assert decode_image(file, Form(8, 8))[4, 4] == pytest.approx([255, 0, 0], abs=3)


def test_crops():
    image = np.zeros((8, 32, 3), np.uint8)
    image[...] = np.arange(32)[:, None]  # a column's level is its place
    assert decode_image(png(image), Form(8, 8))[0, :, 0].tolist() == list(range(12, 20))
    stretched = decode_image(png(image), Form(8, 8, crop="none"))[0, :, 0]
    assert np.abs(stretched.astype(int) - (4 * np.arange(8) + 1.5)).max() <= 2
    firsts = [int(decode_image(png(image), Form(8, 8, crop="random"), f"{i}.png")[0, 0, 0]) for i in range(60)]
    assert (min(firsts), max(firsts)) == (0, 24)
    again = decode_image(png(image), Form(8, 8, crop="random"), "7.png")[0, :, 0]
    assert again.tolist() == list(range(firsts[7], firsts[7] + 8))
    tall = decode_image(png(image.transpose(1, 0, 2)), Form(8, 4))  # 8 x 4 of 32 x 8: 16 rows of 8
    assert np.abs(tall[:, 0, 0].astype(int) - (8.5 + 2 * np.arange(8))).max() <= 2
    assert decode_image(png(image), Form(8, 16))[0, :, 0].tolist() == list(range(8, 24))


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
    config.name, config.dir, config.image_size = "images", str(tmp_path / "images"), 8
    config.held_out = 0.0
    return config


def test_folder(folder, capsys):
    dataset = data.load(folder)
    images, labels = dataset.get(np.array([2, 0, 1]))
    root = Path(folder.dir)
    expected = [decode_image(root / name, Form(8, 8)) for name in ("b/deep/1.JPG", "a/3.webp", "b/2.png")]
    assert np.array_equal(images, expected)
    assert labels.tolist() == [1, 0, 1]
    assert (len(dataset), dataset.num_classes, dataset.image_shape) == (3, 2, (8, 8, 3))
    assert data.load_held_out(folder) is None
    assert "Decoding 3 images" in capsys.readouterr().err


def test_a_ctrl_c_does_not_wait_for_what_is_being_decoded(tmp_path):
    class Slow:
        """Four hundred large images."""

        num_classes, class_names, image_shape, is_checked = 0, (), (8, 8, 3), False

        def __len__(self):
            return 400

        def read(self, indices):
            for _ in indices:
                time.sleep(1.0)
                yield np.zeros(self.image_shape, np.uint8), 0

    began = time.monotonic()
    threading.Timer(0.3, signals.send, (signal.SIGINT,)).start()
    with pytest.raises(KeyboardInterrupt):
        open_source(Slow(), tmp_path / "decoded")
    assert time.monotonic() - began < 1.0
    assert not list(tmp_path.glob("*decod*"))


@pytest.mark.parametrize(("quick", "least", "most"), [(10.0, 1, 1), (0.0, 4, decoding.THREADS)])
def test_quick_images_are_decoded_one_after_the_other_and_others_at_once(monkeypatch, quick, least, most):
    monkeypatch.setattr(decoding, "QUICK", quick)

    class Images:
        num_classes, class_names, image_shape, is_checked = 0, (), (1, 1, 1), True
        under_way = at_once = 0
        lock = threading.Lock()

        def __len__(self):
            return 320

        def facts(self):
            return {}

        def read(self, indices):
            for i in indices:
                with self.lock:
                    self.under_way += 1
                    self.at_once = max(self.at_once, self.under_way)
                time.sleep(0.001)
                with self.lock:
                    self.under_way -= 1
                yield np.full(self.image_shape, i % 256, np.uint8), i

    source = Images()
    dataset = data.StreamingDataset(source)
    pixels, labels = dataset.get(np.arange(320)[::-1])
    assert labels.tolist() == list(range(320))[::-1]
    assert pixels.ravel().tolist() == [i % 256 for i in labels]
    assert least <= source.at_once <= most
    assert [len(x) for x in dataset.get(np.arange(0))] == [0, 0]


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


def test_a_streamed_folder_has_the_same_images(folder):
    cached = data.load(folder).get(np.arange(3))
    folder.cache_gb = 0.0
    dataset = data.load(folder)
    assert isinstance(dataset, data.StreamingDataset)
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


# ---- Noise


@pytest.mark.parametrize(("channels", "shape"), [("auto", (8, 8, 3)), (1, (8, 8, 1)), (4, (8, 8, 4))])
def test_synthetic_images(channels, shape):
    config = default_config().data
    config.update(dict(name="synthetic", image_size=8, channels=channels, num_classes=7))
    dataset = data.load(config)
    spec = data.DataSpec.from_dataset(dataset)
    assert (dataset.image_shape, spec.num_classes, spec.num_images) == (shape, 7, 50_000)
    assert spec.fingerprint == data.DataSpec.from_dataset(data.load(config)).fingerprint
    images, labels = dataset.get(np.array([0, 1, 49_999]))
    assert labels.tolist() == [0, 1, 49_999 % 7]
    assert np.ptp(images) > 200
    assert (images[0] != images[1]).mean() > 0.9
    assert data.load_held_out(config) is None
    config.num_classes = 0
    assert data.load(config).num_classes == 0


def test_large_synthetic_images_are_few(monkeypatch):
    monkeypatch.setattr("jaxgan.data.synthetic.MOST_BYTES", 3000)
    config = default_config().data
    config.update(dict(name="synthetic", image_size=16))
    images, _ = data.load(config).get(np.arange(8))
    assert np.array_equal(images[:3], images[3:6])


# ---- A file of arrays


def test_npz_by_name(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8), np.arange(6) % 3
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    config = default_config().data
    config.name, config.dir, config.image_size = "images", str(tmp_path / "mine.npz"), 8
    config.held_out = 0.0
    dataset = data.load(config)
    assert np.array_equal(dataset.images, images)
    assert (dataset.num_classes, dataset.labels.tolist()) == (3, labels.tolist())
    assert dataset.facts == {"from": "an npz, labels in it", "taken as": "8x8 RGB", "classes": "3: 0 (2), 1 (2), 2 (2)"}
    assert data.load_held_out(config) is None
    config.image_size = 16
    with pytest.raises(ConfigError, match=r"config\.data\.image_size=16: .*mine\.npz have 8x8 pixels"):
        data.load(config)
    config.dir = str(tmp_path / "none.npz")
    with pytest.raises(ConfigError, match=r"config\.data\.dir='.*none\.npz': there is no such directory or file"):
        data.load(config)
