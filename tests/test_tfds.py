"""Sets of tensorflow-datasets: a made-up CIFAR-10 archive, and a tiny set; no network, no TensorFlow."""

import hashlib
import io
import itertools
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.image_classification import cifar

from jaxgan import data
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.data.cifar10 import URL
from jaxgan.data.image_file import Form, decode_image
from jaxgan.settings import default_config
from tests.helpers import finish, start_python

RECORDS = 40  # in each of the six files of the archive


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
    monkeypatch.setattr(cifar.Cifar10, "url_infos", {URL: info})
    return digest


def by_content(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def test_cifar10_holds_the_images_of_the_archive(prepared):
    root, images, labels = prepared
    dataset = data.load(cifar_config(root))
    assert (len(dataset), dataset.image_shape, dataset.num_classes) == (5 * RECORDS, (32, 32, 3), 10)
    assert dataset.class_names[::9] == ("airplane", "truck")
    assert by_content(*dataset.get(np.arange(5 * RECORDS))) == by_content(images, labels)
    assert len(data.load_held_out(cifar_config(root))) == RECORDS


def test_cifar10_is_in_the_order_of_tfds_itself(prepared):
    root = prepared[0]
    (unofficial,) = (root / "sets").glob("cifar10-*")
    builder = tfds.builder_from_directory(unofficial / "cifar10" / "3.0.2")
    source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    theirs = [(decode_image(io.BytesIO(x["image"]), Form(32, 32)).tobytes(), x["label"]) for x in source]
    images, labels = data.load(cifar_config(root)).get(np.arange(len(source)))
    assert theirs == [(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)]
    assert builder.info.features["label"].int2str(9) == "truck"


def test_a_second_start_neither_prepares_nor_decodes(prepared, capsys):
    assert isinstance(data.load(cifar_config(prepared[0])), data.ArrayDataset)
    assert capsys.readouterr().err == ""


def test_a_streamed_cifar10_has_the_same_images(prepared):
    cached = cifar_config(prepared[0])
    large = cifar_config(prepared[0])
    large.cache_gb = 0.0
    assert np.array_equal(data.load(large).labels, data.load(cached).labels)
    indices = np.random.default_rng(0).integers(0, 5 * RECORDS, 50)
    for one, other in zip(data.load(cached).get(indices), data.load(large).get(indices), strict=True):
        assert np.array_equal(one, other)


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
        with pytest.raises(ConfigError if manual_dir else RunFailed) as error:
            data.load(config)
        message = str(error.value)
        assert "\n" not in message
        for part in (URL, "config.data.manual_dir", "configs/numerals.py needs no download"):
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


def test_what_a_killed_preparation_leaves_is_cleared_away(tmp_path):
    config = default_config().data
    config.name, config.dir = "tiny_grey", str(tmp_path)
    abandoned, other = (
        tmp_path / "tiny_grey" / name for name in ("incomplete.ABC123_1.0.0", "incomplete.ABC123_2.0.0")
    )
    for directory in (abandoned, other):
        directory.mkdir(parents=True)
    data.load(config)
    assert (abandoned.exists(), other.exists()) == (False, True)


def flip(path):
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("*train.array_record*", flip),
        ("*train.array_record*", lambda path: os.truncate(path, 3000)),
        ("*train.array_record*", Path.unlink),
        ("dataset_info.json", lambda path: path.write_text('{"a":')),
    ],
)
def test_a_damaged_set_is_one_line_with_the_command_that_removes_it(prepared, tmp_path, pattern, damage):
    shutil.copytree(prepared[0], tmp_path / "copy")
    config = cifar_config(tmp_path / "copy")
    config.cache_gb = 0.0
    (file,) = (tmp_path / "copy" / "sets").glob(f"cifar10-*/cifar10/3.0.2/{pattern}")
    damage(file)
    with pytest.raises(OSError, match=r"^the prepared set .* is damaged \(.*\); remove it.*: rm -r /.*") as error:
        data.load(config).get(np.arange(5 * RECORDS))
    assert "\n" not in str(error.value)
    shutil.rmtree(str(error.value).rpartition(" ")[2])
    assert len(data.load(config)) == 5 * RECORDS


def test_a_read_only_set_is_kept_decoded_elsewhere(prepared, tmp_path, monkeypatch):
    root, images, labels = prepared
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(root))
    config = cifar_config(root)
    config.split = "train[:50%]+train[50%:]"
    dataset = data.load(config)
    assert by_content(dataset.images, dataset.labels) == by_content(images, labels)
    assert len(list(tmp_path.glob("jaxgan/*/decoded/images.npy"))) == 1


@pytest.mark.slow
def test_processes_that_start_together(tmp_path):
    """Both get the same images, and only one prepares them."""
    write_archive(tmp_path / "archive", seed=4)
    program = """if True:
        import sys, types
        from jaxgan import data

        names = dict(name="cifar10", split="train", image_size=32, cache_gb=4.0, verify_checksum=False)
        names |= dict(crop="center", channels="auto", alpha="white", held_out=0.0)
        config = types.SimpleNamespace(**names, dir=sys.argv[1] + "/sets", manual_dir=sys.argv[1] + "/archive")
        dataset = data.load(config)
        print(len(dataset), *dataset.images.sum(axis=(1, 2, 3)))
    """
    both = [start_python("-W", "error", "-c", program, str(tmp_path)) for _ in range(2)]
    *said, out = finish(both[0]).splitlines()
    *other_said, other_out = finish(both[1]).splitlines()
    assert out == other_out
    assert int(out.split()[0]) == 5 * RECORDS
    assert sorted(line.split()[0] for line in said + other_said) == ["Decoding", "Preparing"]


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


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
            yield i, {"image": image[..., None] if self.as_arrays else png(image)}


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
    config.name = "stacked_digit"
    with pytest.raises(ConfigError, match="nearest: stacked_digits"):
        data.load(config)
    config.dir = "gs://bucket/sets"
    with pytest.raises(ConfigError, match="must be on this machine"):
        data.load(config)
