"""Directories of pictures: what is read, what is not and why, and what the account says."""

import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.core.array_file import NotKept
from jaxgan.core.errors import ConfigError
from jaxgan.data.scan import abbreviated, natural, printable, readable_suffixes, scan
from jaxgan.settings import default_config


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def write(root: Path, *names: str) -> None:
    """Writes a picture, or what its ending says, under each name; its grey is the number of the name."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in readable_suffixes():
            Image.new("RGB", (8, 8), (i, i, i)).save(path, lossless=True, quality=100)
        else:
            path.write_text("no picture")


def load(root: Path, **changes):
    config = default_config().data
    config.update(dict(name="folder", dir=str(root), image_size=8) | changes)
    return data.load(config)


def greys(dataset) -> list[int]:
    return dataset.get(np.arange(len(dataset)))[0][:, 0, 0, 0].tolist()


# ---- What is read


def test_natural_order():
    assert sorted(["10", "9", "a", "1a", "01", "1", ""], key=natural) == ["", "01", "1", "1a", "9", "10", "a"]


def test_classes_are_in_natural_order_and_keep_their_names(root):
    write(root, *(f"{i}/x.png" for i in range(12)))
    dataset = load(root)
    assert dataset.class_names == tuple(map(str, range(12)))
    assert greys(dataset) == dataset.labels.tolist() == list(range(12))
    spec = data.DataSpec.from_dataset(dataset)
    assert spec.class_names == dataset.class_names
    saved = json.loads(json.dumps(spec._asdict()))
    assert data.DataSpec(**saved) == spec
    assert spec._asdict() == saved


@pytest.mark.parametrize(
    "suffix",
    [".bmp", ".gif", ".tif", ".TIFF", ".jfif", ".jpe", ".webp", ".ppm", ".pgm", ".tga", ".apng", ".jp2", ".avif"],
)
def test_formats_that_pillow_reads(root, suffix):
    if suffix.lower() not in readable_suffixes():
        pytest.skip("this Pillow is built without it")
    write(root, "0.png", "1.png", f"2{suffix}")
    assert greys(load(root)) == pytest.approx([0, 1, 2], abs=1)


def test_the_first_frame_of_an_animation(root):
    frames = [Image.new("L", (8, 8), grey) for grey in (10, 200)]
    frames[0].save(root / "a.gif", save_all=True, append_images=frames[1:])
    assert greys(load(root)) == [10]


def test_what_a_package_adds_to_pillow(monkeypatch):
    heif = types.SimpleNamespace(register_heif_opener=lambda: None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert ".heic" not in readable_suffixes()
    monkeypatch.setitem(sys.modules, "pillow_heif", heif)
    assert ".heic" in readable_suffixes()


def test_links_are_followed_and_end(root, tmp_path):
    write(tmp_path / "elsewhere", "cat/0.png", "cat/1.png", "loose.png")
    write(root, "dog/0.png")
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (root / "dog" / "1.png").symlink_to(tmp_path / "elsewhere" / "loose.png")
    (root / "dog" / "back").symlink_to(root)
    (root / "a").symlink_to(root / "dog")  # comes first by its name, and is still only a link
    (root / "gone.png").symlink_to(tmp_path / "nowhere")
    dataset = load(root)
    assert (len(dataset), dataset.class_names) == (4, ("cat", "dog"))
    assert dataset.facts == {"classes": "2: cat (2), dog (2)", "not read": "1 a link to nothing, 2 linked to twice"}


# ---- What is not read


def test_the_account(root):
    names = ["b.txt", "c.HEIC", "d.psd", "Makefile", ".hidden.png", ".cache/x.png", "cat/e.txt"]
    write(root, "cat/0.png", "cat/1.png", "dog/0.png", *names)
    assert load(root).facts == {
        "classes": "2: cat (2), dog (1)",
        "not read": "1 .heic (needs pillow-heif), 1 .psd (save it as PNG), 2 hidden, 2 no image (.txt), "
        "1 no image (without an ending)",
    }


def test_an_account_without_classes_and_of_many(root):
    write(root, "0.png")
    assert load(root).facts == {"classes": "none, the images have no labels"}
    assert abbreviated({str(i): 1000 for i in range(20)}).endswith("8 (1,000), 9 (1,000), ..., 19 (1,000)")


def test_names_that_no_terminal_prints(root):
    os.makedirs(os.fsencode(root) + b"/\xff\n")
    write(root, "x/0.png")
    os.rename(root / "x/0.png", os.fsencode(root) + b"/\xff\n/0.png")
    dataset = load(root)
    assert dataset.class_names == ("\\udcff\\n",)
    json.dumps(data.DataSpec.from_dataset(dataset)._asdict()).encode()
    assert printable("Müller 犬") == "Müller 犬"


def test_what_a_run_writes_is_no_picture(root):
    write(root, "cat/0.png", "dog/0.png")
    before = load(root)
    for run in ("runs/mine", "cat/run"):
        write(root, *(f"{run}/{name}" for name in ("config.json", "data.json", "metrics.jsonl", "samples/1.png")))
    after = load(root)
    assert data.DataSpec.from_dataset(after) == data.DataSpec.from_dataset(before)
    assert after.facts["not read"] == "2 of a run of jaxgan"
    write(root / "runs", "photo.png", "config.json", "data.json")  # alone these two make no run
    assert load(root).class_names == ("cat", "dog", "runs")


def test_a_run_in_the_directory_of_its_pictures(root):
    write(root, "0.png", "config.json", "data.json", "metrics.jsonl", "curves.png", "samples/1.png", "checkpoints/1/x")
    dataset = load(root)
    assert (len(dataset), dataset.num_classes) == (1, 0)


def test_an_empty_directory_says_what_it_holds(root):
    write(root, "a.heic", "b.heic")
    with pytest.raises(ConfigError, match=r"holds no image \(\.png.*\); not read: 2 \.heic \(needs pillow-heif\)$"):
        load(root)


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "test"), ("validation",), ("train", "valid", "test")])
def test_splits_are_no_classes(root, names):
    write(root, *(f"{name}/cat/0.png" for name in names))
    with pytest.raises(ConfigError, match=rf"^config\.data\.dir=.*like splits.*; name one of them, .*{min(names)}'$"):
        load(root)
    write(root, "other/0.png")
    assert load(root).num_classes == len(names) + 1


# ---- StyleGAN's layout


def stylegan(root: Path, labels) -> Path:
    write(root, *(f"{i // 2:05d}/img{i:08d}.png" for i in range(4)))
    (root / "dataset.json").write_text(labels if isinstance(labels, str) else json.dumps({"labels": labels}))
    return root


def pairs(*labels):
    return [[f"{i // 2:05d}/img{i:08d}.png", label] for i, label in enumerate(labels)]


def test_stylegan_labels(root):
    dataset = load(stylegan(root, pairs(3, 0, 3, 1)[::-1]))
    assert (dataset.num_classes, dataset.class_names, dataset.labels.tolist()) == (4, (), [3, 0, 3, 1])
    assert dataset.facts == {"classes": "4: 0 (1), 1 (1), 2 (0), 3 (2)"}
    changed = load(stylegan(root, pairs(0, 0, 1, 1)))
    assert (changed.num_classes, changed.labels.tolist()) == (2, [0, 0, 1, 1])


@pytest.mark.parametrize("labels", [None, []])
def test_shards_without_labels_are_no_classes(root, labels):
    assert load(stylegan(root, labels)).num_classes == 0


def test_images_that_dataset_json_does_not_list(root):
    dataset = load(stylegan(root, pairs(1, 0, 1)))
    assert (len(dataset), dataset.facts["not read"]) == (3, "1 beside dataset.json but not in it")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pairs(0, 0, 0, 0, 0), r"1 of the 5 images that it lists are not there.* 00002/img00000004\.png$"),
        (pairs(0, -1), r"label of 00000/img00000001\.png is -1: must be a whole number"),
        (pairs(0, 2**31), "is 2147483648: must be"),
        (pairs(0, 1.5), r"is 1\.5: must be"),
        (pairs(0, True), "is True: must be"),
        (pairs(0, [0.5, 0.5]), r"is \[0\.5, 0\.5\]: must be"),
        (pairs(0, 1) + pairs(1), "lists 1 images more than once"),
        ([1, 2], r'must hold \{"labels": '),
        ("{", r'must hold \{"labels": '),
        ("[]", r'must hold \{"labels": '),
        ('{"a": 1}', r'must hold \{"labels": '),
    ],
)
def test_a_bad_dataset_json(root, labels, message):
    with pytest.raises(ConfigError, match=rf"^{root}/dataset\.json: .*{message}") as error:
        load(stylegan(root, labels))
    assert "\n" not in str(error.value)


# ---- Files that cannot be read


@pytest.fixture
def broken(root):
    write(root, *(f"{'ab'[i % 2]}/{i}.png" for i in range(12)))
    for i in (1, 2, 5, 10):
        (root / "ab"[i % 2] / f"{i}.png").write_bytes(b"\x89PNG")
    return root


@pytest.mark.parametrize("cache_gb", [4.0, 0.0])
def test_all_unreadable_files_are_counted_at_once(broken, cache_gb):
    with pytest.raises(
        OSError, match=r"^4 of 12 .*a/2\.png is.*a/10\.png is.*b/1\.png is.*; and 1 more; config"
    ) as error:
        load(broken, cache_gb=cache_gb)
    assert str(error.value).endswith("config.data.skip_unreadable=True leaves them out")


@pytest.mark.parametrize("cache_gb", [4.0, 0.0])
def test_unreadable_files_are_left_out(broken, cache_gb, capsys):
    for _ in range(2):
        dataset = load(broken, cache_gb=cache_gb, skip_unreadable=True)
        assert greys(dataset) == [0, 4, 6, 8, 3, 7, 9, 11]
        assert dataset.get(np.arange(8))[1].tolist() == dataset.labels.tolist() == [0] * 4 + [1] * 4
        assert dataset.facts == {"classes": "2: a (4), b (4)", "not read": "4 unreadable"}
    assert capsys.readouterr().err.count("Decoding") == 1
    with pytest.raises(OSError, match="4 of 12 images cannot be read"):  # though there is a copy without them
        load(broken, cache_gb=cache_gb)


def test_nothing_but_unreadable_files(root):
    (root / "0.png").write_bytes(b"")
    with pytest.raises(OSError, match=r"^1 of 1 images cannot be read: .*0\.png is not a readable image: [^;]*$"):
        load(root, skip_unreadable=True)


# ---- The decoded copy


def damage_bit(path):
    content = bytearray((path / "images.npy").read_bytes())
    content[-5] ^= 1
    (path / "images.npy").write_bytes(content)


DAMAGE = {
    "a bit": damage_bit,
    "the end": lambda path: os.truncate(path / "images.npy", 300),
    "another size": lambda path: np.save(path / "images.npy", np.zeros((3, 16, 16, 3), np.uint8)),
    "another type": lambda path: np.save(path / "images.npy", np.zeros((3, 8, 8, 3), np.float32)),
    "labels": lambda path: np.save(path / "labels.npy", np.array([0, 0, 0], np.int32)),
    "no images": lambda path: (path / "images.npy").unlink(),
    "no account": lambda path: (path / "unreadable.json").unlink(),
    "a bad account": lambda path: (path / "unreadable.json").write_text("{}"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_copy_is_made_anew_with_a_warning(root, capsys, name):
    write(root, "a/0.png", "b/1.png", "b/2.png")
    load(root)
    (copy,) = (root.parent / "cache" / "jaxgan").glob("*/decoded")
    DAMAGE[name](copy)
    capsys.readouterr()
    dataset = load(root)
    assert (greys(dataset), dataset.labels.tolist()) == ([0, 1, 2], [0, 1, 1])
    warning, again = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {copy} is damaged (")
    assert again.startswith("Decoding")
    load(root)
    assert capsys.readouterr().err == ""


def test_a_copy_that_cannot_be_written_is_done_without(root, capsys, monkeypatch):
    write(root, "a/0.png", "b/1.png")
    (root.parent / "cache").write_text("no directory")
    monkeypatch.setattr("jaxgan.core.files._writable", lambda caches: root.parent / "cache")
    dataset = load(root)
    assert isinstance(dataset, data.StreamingDataset)
    assert greys(dataset) == [0, 1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: images are decoded whenever they are read: ")


def test_a_full_disk_is_done_without(root, monkeypatch, capsys):
    def refuse(path, size):
        raise NotKept(f"{path} takes more")

    write(root, "a/0.png", "b/1.png")
    monkeypatch.setattr("jaxgan.core.array_file.reserve", refuse)
    assert greys(load(root)) == [0, 1]
    assert capsys.readouterr().err.splitlines()[-1].startswith("warning: images are decoded whenever they are read: ")
    assert [path.name for path in (root.parent / "cache" / "jaxgan").glob("*/*") if path.name != ".lock"] == []


def test_a_scan_reads_no_file(root):
    write(root, "0.png", "10.png", "9.png")
    assert list(scan(root).images) == ["0.png", "9.png", "10.png"]
