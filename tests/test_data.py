"""The order of images, the batches, and every kind of set; no network and no data needed."""

import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.image_classification import cifar

from jaxgan import data
from jaxgan.config import ConfigError, default_config
from jaxgan.data import decode, epoch_positions
from jaxgan.data.digits import StackedDigits, load_digits
from jaxgan.data.tfds import CIFAR10_URL

RECORDS = 40  # in each of the six files of the archive below


# ---- Order


def test_every_image_once_an_epoch():
    stream = epoch_positions(seed=3, start=0, count=3 * 101, n=101).reshape(3, 101)
    assert all(np.array_equal(np.sort(epoch), np.arange(101)) for epoch in stream)
    assert not np.array_equal(stream[0], stream[1])
    assert not np.array_equal(stream[0], epoch_positions(seed=4, start=0, count=101, n=101))


def test_positions_are_slices_of_one_stream():
    stream = epoch_positions(seed=5, start=0, count=100, n=7)
    for start, count in itertools.product(range(30), (1, 6, 7, 8, 30)):
        assert np.array_equal(epoch_positions(5, start, count, 7), stream[start : start + count])


def test_order_never_changes():
    """Otherwise a resumed run would see other batches than it would have seen."""
    assert epoch_positions(0, 0, 8, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3]
    assert epoch_positions(1, 6, 8, 10).tolist() == [8, 6, 1, 4, 0, 6, 5, 3]
    assert epoch_positions(-3, 0, 4, 10).tolist() == [0, 2, 5, 3]


# ---- Batches


class Counting:
    """Image i is the number i in each of its bytes; its label is i."""

    num_classes = 0
    image_shape = (2, 2, 1)

    def __init__(self, n=100):
        self.n, self.delay, self.fail_at, self.calls = n, 0.0, None, 0

    def __len__(self):
        return self.n

    def get(self, indices):
        self.calls += 1
        if self.calls == self.fail_at:
            raise FileNotFoundError("the disk is gone")
        time.sleep(self.delay)
        return np.broadcast_to(indices[:, None, None, None], (len(indices), 2, 2, 1)).astype(np.uint8), indices


def batches(dataset=None, **changes):
    settings = dict(
        seed=0, per_step=(2, 8), steps_per_call=1, first_step=0, last_step=12, device_slots=range(4), num_devices=4
    )
    return data.Batches(dataset or Counting(), **{**settings, "put": lambda batch: batch, **changes})


def labels(**changes):
    """Labels of all steps in the order of the stream, [step, n, global batch] (of the slots asked for)."""
    calls = [batch["labels"] for batch in batches(**changes)]  # [D, K, n, b] each
    steps = np.concatenate(calls, axis=1).transpose(1, 2, 0, 3)
    return steps.reshape(*steps.shape[:2], -1)


def test_batches_are_the_stream_in_order():
    first = next(batches(steps_per_call=3))
    assert first["images"].shape == (4, 3, 2, 2, 2, 2, 1)
    assert first["images"].dtype == np.uint8
    assert first["labels"].shape == (4, 3, 2, 2)
    assert np.array_equal(first["images"][..., 0, 0, 0], first["labels"])
    assert np.array_equal(labels().ravel(), epoch_positions(0, 0, 12 * 16, 100))
    device_2 = first["labels"][2]  # holds examples 4 and 5 of each global batch of 8
    assert np.array_equal(device_2.ravel(), epoch_positions(0, 0, 48, 100).reshape(6, 8)[:, 4:6].ravel())


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("num_devices", [4, 8])
def test_processes_share_one_batch(processes, num_devices):
    each = num_devices // processes
    slots = [range(p * each, (p + 1) * each) for p in range(processes)]
    union = np.concatenate([labels(device_slots=s, num_devices=num_devices) for s in slots], axis=-1)
    assert np.array_equal(union, labels(device_slots=range(1), num_devices=1))


@pytest.mark.parametrize(("steps_per_call", "first_step"), [(1, 0), (1, 5), (4, 0), (4, 8), (3, 12)])
def test_resumed_and_larger_calls_see_the_same_batches(steps_per_call, first_step):
    got = (
        labels(steps_per_call=steps_per_call, first_step=first_step)
        if first_step < 12
        else list(batches(steps_per_call=steps_per_call, first_step=first_step))
    )
    assert np.array_equal(got, labels()[first_step:] if first_step < 12 else [])


def test_two_calls_ahead_and_no_further():
    dataset = Counting()
    with_depth = batches(dataset, depth=2)
    deadline = time.monotonic() + 5
    while dataset.calls < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert dataset.calls == 2
    next(with_depth)
    time.sleep(0.05)
    assert dataset.calls == 3
    with_depth.close()


def test_put_is_called_on_the_thread():
    seen = []

    def put(batch):
        seen.append(threading.current_thread())
        return batch["labels"].sum()

    assert [int(x) for x in batches(put=put)] == labels().sum(axis=(1, 2)).tolist()
    assert threading.current_thread() not in seen


def test_an_exception_keeps_its_type_and_stops_the_iterator():
    dataset = Counting()
    dataset.fail_at = 3
    iterator = batches(dataset)
    next(iterator)
    next(iterator)
    with pytest.raises(FileNotFoundError, match="the disk is gone"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_close_is_prompt_and_ends_the_thread():
    dataset = Counting()
    dataset.delay = 0.05
    iterator = batches(dataset, last_step=1000, depth=20)
    begin = time.monotonic()
    iterator.close()
    assert time.monotonic() - begin < 0.5  # the call under way, not the nineteen behind it
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    assert list(iterator) == []


def test_waiting_is_measured():
    dataset = Counting()
    dataset.delay = 0.03
    slow = batches(dataset, last_step=4)
    list(slow)
    assert 0.09 < slow.wait_seconds < 1.0


def test_impossible_divisions_are_refused():
    with pytest.raises(ValueError, match="8 cannot be divided among 3"):
        batches(num_devices=3)
    with pytest.raises(ValueError, match="0 to 12 are not whole calls of 5"):
        batches(steps_per_call=5)


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


def encoded(array, mode=None, **options) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, "png", **options) if mode else Image.fromarray(array).save(file, **options)
    return file


def test_an_image_of_the_right_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(decode.decode(encoded(image, format="png"), 16, 3), image)


def test_crop_is_central_and_shrinking_is_antialiased():
    image = np.full((16, 48, 3), 255, np.uint8)
    image[:, 16:32] = np.indices((16, 16)).sum(axis=0)[..., None] % 2 * 200  # a checkerboard of 0 and 200
    shrunk = decode.decode(encoded(image, format="png"), 4, 3)
    assert shrunk.shape == (4, 4, 3)
    assert np.abs(shrunk.astype(int) - 100).max() <= 3


def test_grey_palette_and_transparent_images_become_rgb():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(decode.decode(encoded(grey, format="png"), 8, 3), np.stack([grey] * 3, axis=-1))
    assert np.array_equal(decode.decode(encoded(grey, format="png"), 8, 1), grey[..., None])
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, 3] = 255  # opaque black above, transparent black below
    result = decode.decode(encoded(rgba, format="png"), 8, 3)
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
    assert decode.decode(encoded(image, format="png", exif=exif), 8, 3)[:4].min() == 255


def test_sixteen_bits_are_refused():
    with pytest.raises(ValueError, match="8 bits"):
        decode.decode(encoded(np.full((8, 8), 1000, np.uint16), format="png"), 8, 3)


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


# ---- CIFAR-10 and other sets of tfds


def write_archive(directory: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """cifar-10-binary.tar.gz in the official layout, of noise; returns its training images and labels."""
    rng = np.random.default_rng(seed)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    records = rng.integers(0, 256, (6, RECORDS, 3073), np.uint8)
    records[..., 0] %= 10
    files = dict(zip(names, (r.tobytes() for r in records), strict=True))
    classes = "airplane automobile bird cat deer dog frog horse ship truck"
    files["batches.meta.txt"] = (classes.replace(" ", "\n") + "\n\n").encode()
    directory.mkdir(exist_ok=True)
    with tarfile.open(directory / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    train = records[:5].reshape(-1, 3073)
    return train[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), train[:, 0]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(directory with archive/ and a prepared sets/, images, labels): copied nowhere, so tests only read it."""
    root = tmp_path_factory.mktemp("cifar")
    images, labels = write_archive(root / "archive", seed=0)
    data.load(cifar_config(root))
    return root, images, labels


def cifar_config(root: Path):
    config = default_config().data
    config.dir, config.manual_dir, config.verify_checksum = str(root / "sets"), str(root / "archive"), False
    return config


def make_official(monkeypatch, directory: Path):
    """Let tfds believe that the archive in `directory` is the official one."""
    archive = directory / "cifar-10-binary.tar.gz"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    info = UrlInfo(size=archive.stat().st_size, checksum=digest, filename=archive.name)
    monkeypatch.setattr(cifar.Cifar10, "url_infos", {CIFAR10_URL: info})
    return digest


def by_content(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def test_cifar10_holds_the_images_of_the_archive(prepared):
    root, images, labels = prepared
    dataset = data.load(cifar_config(root))
    assert (len(dataset), dataset.image_shape, dataset.num_classes) == (5 * RECORDS, (32, 32, 3), 10)
    assert by_content(*dataset.get(np.arange(5 * RECORDS))) == by_content(images, labels)
    assert len(data.load_held_out(cifar_config(root))) == RECORDS


def test_cifar10_is_in_the_order_of_tfds_itself(prepared):
    root = prepared[0]
    (unofficial,) = (root / "sets").glob("cifar10-*")
    builder = tfds.builder_from_directory(unofficial / "cifar10" / "3.0.2")
    source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    theirs = [(decode.decode(io.BytesIO(x["image"]), 32, 3).tobytes(), x["label"]) for x in source]
    images, labels = data.load(cifar_config(root)).get(np.arange(len(source)))
    assert theirs == [(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)]
    assert builder.info.features["label"].int2str(9) == "truck"


def test_a_second_start_neither_prepares_nor_decodes(prepared, monkeypatch, capsys):
    root = prepared[0]
    monkeypatch.setattr(decode.OnDemand, "get", None)
    begin = time.perf_counter()
    data.load(cifar_config(root)).get(np.arange(10))
    assert time.perf_counter() - begin < 0.5
    assert capsys.readouterr().err == ""


def test_cifar10_on_demand_is_the_same(prepared):
    cached = cifar_config(prepared[0])
    large = cifar_config(prepared[0])
    large.cache_gb = 0.0
    settings = dict(last_step=20, device_slots=range(2), num_devices=2)
    one, other = (batches(data.load(config), **settings) for config in (cached, large))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a["images"], b["images"])
        assert np.array_equal(a["labels"], b["labels"])


def test_cifar10_resized_and_split(prepared):
    config = cifar_config(prepared[0])
    full = data.load(config).images
    config.image_size, config.split = 16, "train[:25%]"
    part = data.load(config)
    assert part.images.shape == (5 * RECORDS // 4, 16, 16, 3)
    assert np.array_equal(
        part.images[3], np.asarray(Image.fromarray(full[3]).resize((16, 16), Image.Resampling.LANCZOS))
    )
    config.split = "validation"
    with pytest.raises(ConfigError, match=r"config\.data\.split='validation': cifar10 has the splits train, test"):
        data.load(config)


def test_other_archives_are_never_taken_for_the_official_one(tmp_path, monkeypatch):
    config = cifar_config(tmp_path)
    first = by_content(*write_archive(tmp_path / "archive", seed=1))
    digest = make_official(monkeypatch, tmp_path / "archive")
    config.verify_checksum = True
    assert by_content(data.load(config).images, data.load(config).labels) == first

    second = by_content(*write_archive(tmp_path / "archive", seed=2))
    assert by_content(data.load(config).images, data.load(config).labels) == first  # already prepared
    config.verify_checksum = False
    assert by_content(data.load(config).images, data.load(config).labels) == second

    config.dir, config.verify_checksum = str(tmp_path / "elsewhere"), True
    found = hashlib.sha256((tmp_path / "archive" / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match=rf"{found}, not {digest}.*verify_checksum=False"):
        data.load(config)
    assert not list((tmp_path / "elsewhere").glob("cifar10/*"))


def refuse(*_, **__):
    raise requests.exceptions.ConnectionError("no network here\nand more lines")


def test_no_network_and_no_archive_is_one_line_of_advice(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(requests.Session, "get", refuse)
    config = cifar_config(tmp_path)
    (tmp_path / "archive").mkdir()
    for manual_dir, verify_checksum in itertools.product(("", config.manual_dir), (True, False)):
        config.manual_dir, config.verify_checksum = manual_dir, verify_checksum
        with pytest.raises(ConfigError) as error:
            data.load(config)
        message = str(error.value)
        assert "\n" not in message
        for part in (CIFAR10_URL, "config.data.manual_dir", "configs/digits.py needs no download"):
            assert part in message
    seen = capfd.readouterr()
    assert seen.out == ""
    assert all(line.startswith("Preparing cifar10 in ") for line in seen.err.splitlines())


def test_a_set_prepared_by_tensorflow_as_tfrecord_is_prepared_beside(tmp_path, monkeypatch):
    images, labels = write_archive(tmp_path / "archive", seed=3)
    make_official(monkeypatch, tmp_path / "archive")
    config = cifar_config(tmp_path)
    config.verify_checksum = True
    data.load(config)
    path = tmp_path / "sets" / "cifar10" / "3.0.2" / "dataset_info.json"
    info = json.loads(path.read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["filepathTemplate"] = split["filepathTemplate"].replace("array_record", "tfrecord")
    path.write_text(json.dumps(info))
    before = sorted(path.parent.iterdir())
    assert by_content(data.load(config).images, data.load(config).labels) == by_content(images, labels)
    assert sorted(path.parent.iterdir()) == before
    assert (tmp_path / "sets" / "array_record" / "cifar10" / "3.0.2").is_dir()


def test_a_read_only_set_is_kept_decoded_elsewhere(prepared, tmp_path, monkeypatch):
    root, images, labels = prepared
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    config = cifar_config(root)
    config.split = "train[:50%]+train[50%:]"
    dataset = data.load(config)
    assert by_content(dataset.images, dataset.labels) == by_content(images, labels)
    assert len(list(tmp_path.glob("jaxgan/*/decoded/images.npy"))) == 1


def test_processes_that_start_together(tmp_path):
    """Both get the same images, and only one prepares them."""
    write_archive(tmp_path / "archive", seed=4)
    program = (
        "import sys; from pathlib import Path; from tests.test_data import cifar_config; from jaxgan import data;"
        "d = data.load(cifar_config(Path(sys.argv[1]))); print(len(d), *d.images.sum(axis=(1, 2, 3)))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    both = [subprocess.Popen(command, **options) for _ in range(2)]
    (out, err), (other_out, other_err) = (process.communicate(timeout=120) for process in both)
    assert [process.returncode for process in both] == [0, 0], err + other_err
    assert out == other_out
    assert int(out.split()[0]) == 5 * RECORDS
    said = [line.split()[0] for line in (err + other_err).splitlines()]
    assert (said.count("Preparing"), said.count("Decoding")) == (1, 1)


class TinyGrey(tfds.core.GeneratorBasedBuilder):
    """A set of one channel and no labels, whose examples are files, so that no TensorFlow is needed."""

    VERSION = tfds.core.Version("1.0.0")
    as_arrays = False

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(12, 10, 1))})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            image = np.full((12, 10), 50 * i, np.uint8)
            yield i, {"image": image[..., None] if self.as_arrays else encoded(image, format="png").getvalue()}


def test_another_set_of_tfds(tmp_path, capfd):
    config = default_config().data
    config.name, config.dir, config.image_size = "tiny_grey", str(tmp_path), 8
    dataset = data.load(config)
    assert (dataset.image_shape, dataset.num_classes, len(dataset)) == ((8, 8, 1), 0, 5)
    images, labels = dataset.get(np.arange(5))
    assert sorted(images.reshape(5, -1).mean(axis=1)) == [0, 50, 100, 150, 200]
    assert not labels.any()
    with pytest.raises(ConfigError, match=r"config\.data\.eval_split='test': tiny_grey has the splits train"):
        data.load_held_out(config)
    seen = capfd.readouterr()
    assert seen.out == ""
    assert len(seen.err.splitlines()) == 2


def test_a_set_that_takes_tensorflow_to_prepare(tmp_path, monkeypatch):
    monkeypatch.setattr(TinyGrey, "as_arrays", True)
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # where it is installed
    config = default_config().data
    config.name, config.dir = "tiny_grey", str(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.data\.name='tiny_grey': .* takes TensorFlow, once"):
        data.load(config)


def test_a_name_that_tfds_does_not_know(tmp_path):
    config = default_config().data
    config.name, config.dir = "cifar_10", str(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.data\.name='cifar_10': .* nearest: cifar10"):
        data.load(config)
    config.dir = "gs://bucket/sets"
    with pytest.raises(ConfigError, match="must be a directory of this machine"):
        data.load(config)
