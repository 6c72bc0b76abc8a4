"""Images of one's own: directories and archives, what is read of them, what is not and why, and their labels."""

import json
import os
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.core.array_file import NotKept
from jaxgan.core.errors import ConfigError
from jaxgan.data.images import is_held_out
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
    config.update(dict(name="images", dir=str(root), image_size=8, held_out=0.0, channels=3) | changes)
    return data.load(config)


def account(dataset) -> dict:
    """Returns the facts that are about labels and files."""
    return {key: words for key, words in dataset.facts.items() if key in ("classes", "not read", "held out")}


def greys(dataset) -> list[int]:
    return dataset.get(np.arange(len(dataset)))[0][:, 0, 0, 0].tolist()


# ---- What is read


def test_natural_order():
    assert sorted(["10", "9", "a", "1a", "01", "1", ""], key=natural) == ["", "01", "1", "1a", "9", "10", "a"]
    assert sorted(["9" * 5000, "10"], key=natural)[0] == "10"  # Python refuses to make such a number of text


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
    assert account(dataset) == {"classes": "2: cat (2), dog (2)", "not read": "1 a link to nothing, 2 linked to twice"}


# ---- What is not read


def test_the_account(root):
    names = ["b.txt", "c.HEIC", "d.psd", "Makefile", ".hidden.png", ".cache/x.png", "cat/e.txt"]
    write(root, "cat/0.png", "cat/1.png", "dog/0.png", *names)
    with pytest.raises(
        ConfigError, match=r"config\.data\.dir=.*holds 1 \.heic images, which take pip install pillow-heif"
    ):
        load(root)
    assert account(load(root, skip_unreadable=True)) == {
        "classes": "2: cat (2), dog (1)",
        "not read": "1 .heic (needs pip install pillow-heif), 1 .psd (save it as PNG), 2 hidden, 2 no image (.txt), "
        "1 no image (without an ending)",
    }


def test_an_account_without_classes_and_of_many(root):
    write(root, "0.png")
    assert account(load(root)) == {"classes": "none, the images have no labels"}
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
    write(root, "a.psd", "b.psd")
    with pytest.raises(ConfigError, match=r"holds no image \(\.png.*\); not read: 2 \.psd \(save it as PNG\)$"):
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
    assert account(dataset) == {"classes": "4: 0 (1), 1 (1), 2 (0), 3 (2)"}
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
        (pairs(0, 10**6), r"label of 00000/img00000001\.png is 1000000: makes 1,000,001 classes of 2 images; number"),
        ('{"labels": ' + "[" * 10**5, r'must hold \{"labels": '),
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
        names = "a/2.png, a/10.png, b/1.png, b/5.png"
        assert account(dataset) == {"classes": "2: a (4), b (4)", "not read": f"4 unreadable ({names})"}
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
    headers, line = capsys.readouterr().err.splitlines()
    assert headers.startswith("warning: the headers of the images are read at each start: ")
    assert line.startswith("warning: images are decoded whenever they are read: ")


def test_a_copy_of_more_than_it_may_take_is_done_without(root, capsys):
    write(root, *(f"{i}.png" for i in range(10)))
    assert isinstance(load(root, cache_gb=1.9e-6), data.StreamingDataset)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.endswith("they take 1.92e-06 GB of disk, more than config.data.cache_gb=1.9e-06")
    assert isinstance(load(root, cache_gb=1.92e-6), data.ArrayDataset)


def test_a_full_disk_is_done_without(root, monkeypatch, capsys):
    def refuse(path, size):
        raise NotKept(f"{path} takes more")

    write(root, "a/0.png", "b/1.png")
    monkeypatch.setattr("jaxgan.core.array_file.reserve", refuse)
    assert greys(load(root)) == [0, 1]
    assert capsys.readouterr().err.splitlines()[-1].startswith("warning: images are decoded whenever they are read: ")
    assert [path.name for path in (root.parent / "cache" / "jaxgan").glob("*/*") if path.name != ".lock"] == ["survey"]


def test_a_scan_reads_no_file(root):
    write(root, "0.png", "10.png", "9.png")
    assert list(scan(root).images) == ["0.png", "9.png", "10.png"]


# ---- Archives


def packed(root: Path, kind: str) -> Path:
    """Returns an archive of what is in `root`; "tars" are two, which the files go into in turn, one as ./NAME."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if kind in ("stored", "deflated"):
        path = root.parent / f"{kind}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED) as archive:
            for file in files:
                archive.write(file, file.relative_to(root))
        return path
    path = root.parent / kind
    path.mkdir()
    count = 2 if kind == "tars" else 1
    for i in range(count):
        with tarfile.open(path / f"{i}.tar", "w") as archive:
            for file in files[i::count]:
                archive.add(file, "./" * i + file.relative_to(root).as_posix())
    return path


@pytest.mark.parametrize("kind", ["stored", "deflated", "tars"])
def test_an_archive_is_what_its_files_are(root, kind, capsys):
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(40)]
    write(root, *names, "a/notes.txt", "a/.hidden.png")
    whole, path = load(root), packed(root, kind)
    for cache_gb in (4.0, 0.0, 4.0):  # the index of a tar is made once, the copy too
        dataset = load(path, cache_gb=cache_gb)
        order = np.argsort(greys(dataset), kind="stable")  # tars are in the order of the archives
        assert greys(whole) == sorted(greys(whole), key=lambda grey: (grey % 2, grey))
        assert np.array_equal(dataset.get(order)[0][:, 0, 0, 0], np.arange(40))
        assert dataset.get(order)[1].tolist() == [i % 2 for i in range(40)]
        assert dataset.class_names == ("a", "b")
        assert dataset.facts["not read"] == "1 hidden, 1 no image (.txt)"
        assert dataset.facts["from"] == f"a {'tar' if kind == 'tars' else 'zip'}, labels by sub-directories"
        if kind != "tars":
            assert greys(dataset) == greys(whole)
    assert capsys.readouterr().err.count("Decoding") == 2


def test_a_zip_of_stylegan(root):
    path = packed(stylegan(root, pairs(3, 0, 3, 1)), "stored")
    dataset = load(path)
    assert (dataset.num_classes, dataset.labels.tolist(), greys(dataset)) == (4, [3, 0, 3, 1], [0, 1, 2, 3])
    assert load(packed(stylegan(root, None), "deflated")).num_classes == 0


def test_the_directory_that_all_members_are_in_is_no_class(root):
    write(root, "photos/cat/0.png", "photos/dog/1.png")
    assert load(packed(root, "stored")).class_names == ("cat", "dog")
    with zipfile.ZipFile(root.parent / "stored.zip", "a") as archive:  # as macOS packs them
        archive.writestr("__MACOSX/photos/cat/._0.png", b"resource fork")
    assert load(root.parent / "stored.zip").class_names == ("cat", "dog")


def test_the_samples_of_a_webdataset(root):
    write(root, "000.png", "001.png", "002.png", "000.json")
    for i, label in enumerate(("7", "2\n", "7")):
        (root / f"00{i}.cls").write_text(label)
    dataset = load(packed(root, "tar"))
    assert (dataset.num_classes, dataset.facts["not read"]) == (8, "1 no image (.json)")
    assert sorted(zip(greys(dataset), dataset.labels.tolist())) == [(0, 7), (1, 2), (2, 7)]
    (root / "001.cls").unlink()
    (root.parent / "tar").rename(root.parent / "other")
    with pytest.raises(
        ConfigError, match=r"^config\.data\.dir=.*: 1 images have no \.cls file .* such as 0\.tar/001\.png$"
    ):
        load(packed(root, "tar"))


def test_members_of_the_same_name_in_two_tars(root):
    shards = root.parent / "shards"
    shards.mkdir()
    for i in range(12):
        write(root, *(["x/1.png"] if not i else []))
        Image.new("RGB", (8, 8), (i,) * 3).save(root / "x/1.png")
        with tarfile.open(shards / f"{i}.tar", "w") as archive:
            archive.add(root / "x/1.png", "1.png")
    assert greys(load(shards)) == list(range(12))


def damage_archive(path: Path, at: bytes) -> None:
    content = path.read_bytes()
    i = content.index(at) + len(at) + 60
    path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])


@pytest.mark.parametrize("kind", ["stored", "deflated"])
def test_a_damaged_member_is_named(root, kind):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(noise).save(root / "0.png")
    write(root, "1.png")
    path = packed(root, kind)
    damage_archive(path, b"0.png")
    with pytest.raises(OSError, match=rf"^1 of 2 images cannot be read: {path}/0\.png is not a readable image: "):
        load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.zip", b"PK\3\4 no archive", r"cannot be read: File is not a zip file$"),
        ("x.tar", b"no archive" * 100, r"cannot be read: "),
        ("x.tar.gz", b"", r"a compressed tar has no random access: "),
        ("x.tgz", b"", r"a compressed tar has no random access: "),
        ("x.rar", b"", r"name a directory of images, a FILE\.zip, a FILE\.tar or a directory of them, or a FILE\.npz$"),
    ],
)
def test_what_is_no_archive(root, name, content, message):
    (root / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^config\.data\.dir='.*{name}': {message}") as error:
        load(root / name)
    assert "\n" not in str(error.value)


def test_a_member_of_another_method_or_with_a_password(root):
    write(root, "0.png")
    path = root.parent / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.write(root / "0.png", "0.png")
    with pytest.raises(
        ConfigError, match=r"x\.zip': is packed by bzip2; make a zip whose members are stored or deflated"
    ):
        load(path)
    content = bytearray(packed(root, "stored").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag of a password
    path.write_bytes(content)
    with pytest.raises(
        OSError, match=r"x\.zip/0\.png is .*: only stored and deflated members can be read, without a pas"
    ):
        load(path)


def test_endings_in_upper_case(root):
    write(root, "0.png", "1.png")
    np.savez(root.parent / "x.npz", images=np.zeros((2, 8, 8, 3), np.uint8))
    tars = packed(root, "tars")
    for path in (packed(root, "stored"), root.parent / "x.npz", *tars.iterdir()):
        path.rename(path.with_suffix(path.suffix.upper()))
    for place in (root.parent / "stored.ZIP", root.parent / "x.NPZ", tars):
        assert len(load(place)) == 2
        assert data.names_images(str(place), "--reals")
    assert len(load(tars / "0.TAR")) == 1


def test_directories_as_programs_for_windows_pack_them(root):
    write(root, "0.png")
    with zipfile.ZipFile(root.parent / "x.zip", "w") as archive:
        for name in ("cat\\0.png", "dog\\0.png"):
            archive.write(root / "0.png", name)
        archive.writestr("dog\\", b"")
    dataset = load(root.parent / "x.zip")
    assert (dataset.class_names, "not read" in dataset.facts) == (("cat", "dog"), False)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_are_not_read_are_counted(root):
    write(root, "0.png", "1.png")
    with zipfile.ZipFile(root.parent / "x.zip", "w") as archive, tarfile.open(root.parent / "x.tar", "w") as tar:
        for file in ("0.png", "1.png"):
            archive.write(root / file, "a.png")
            tar.add(root / file, "a.png")
        for kind in (tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"{kind}.png")
            member.type, member.linkname = kind, "a.png"
            tar.addfile(member)
    twice = "1 replaced by a later member of its name"
    for path, account in (("x.zip", twice), ("x.tar", f"2 no regular file, {twice}")):
        dataset = load(root.parent / path)
        assert (greys(dataset), dataset.facts["not read"]) == ([1], account)


def test_no_arrays(root):
    np.savez(root.parent / "x.npz", images=np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"^config\.data\.dir='.*x\.npz': holds no images$"):
        load(root.parent / "x.npz")


def test_images_of_an_archive_are_scored_as_those_of_a_directory(root):
    write(root, "a/0.png", "b/1.png", "b/2.png")
    for place in (root, packed(root, "deflated"), packed(root, "tar")):
        dataset = data.open_images(str(place), "--images")
        assert (greys(dataset), dataset.labels.tolist()) == ([0, 1, 2], [0, 1, 1])
        assert data.names_images(str(place), "--reals")
    assert not data.names_images("cifar10", "--reals")
    (root / "c.heic").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"^--images='.*': holds 1 \.heic images, which take pip install pillow-heif$"
    ):
        data.open_images(str(root), "--images")


# ---- labels.csv


@pytest.mark.parametrize(
    ("text", "labels", "names"),
    [
        ("0.png,3\nx/1.png,0\n2.png,3\n", [3, 3, 0], ()),
        ("file,label\n0.png,tabby\n2.png,siamese cat\n./x/1.png,tabby\n", [1, 0, 1], ("siamese cat", "tabby")),
        ('\ufefffilename,label\r\n"0.png", a10\r\n\r\n2.png,a9\r\nx/1.png,1\r\n', [2, 1, 0], ("1", "a9", "a10")),
    ],
)
def test_labels_of_a_csv(root, text, labels, names):
    write(root, "0.png", "x/1.png", "2.png")
    (root / "labels.csv").write_text(text, encoding="utf-8")
    dataset = load(root)
    assert (greys(dataset), dataset.labels.tolist(), dataset.class_names) == ([0, 2, 1], labels, names)
    assert dataset.facts["from"] == "a directory, labels by labels.csv"
    assert load(packed(root, "stored")).labels.tolist() == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": must hold lines such as"),
        ("file,label\n", ": must hold lines such as"),
        ("0.png,1\n0.png,1\n", ", line 2: lists 0.png a second time"),
        ("0.png\n", ", line 1: must be the name of an image and its label"),
        ("0.png,1\n\n1.png,1,2\n", ", line 3: must be the name of an image and its label"),
        ("0.png,\n", ", line 1: must be"),
        ("7.png,1\n", ": 1 of the 1 images that it lists are not there"),
        ('"0.png,1\n', ": must hold lines such as"),
        ("0.png,1.0\n1.png,2.0\n", r": the label of 0\.png is '1\.0': must be a whole number in 0 \.\. "),
        ("0.png,3\n1.png,-1\n", r": the label of 1\.png is '-1': must be a whole number"),
        (f"0.png,{'9' * 5000}\n1.png,1\n", r": the label of 0\.png is '9{40}\.\.\.': must be a whole number"),
        (
            "0.png,5\n1.png,2147483646\n",
            r": the label of 1\.png is 2147483646: makes 2,147,483,647 classes of 2 images",
        ),
    ],
)
def test_a_bad_csv(root, text, message):
    write(root, "0.png", "1.png")
    (root / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"^{root}/labels\.csv{message}"):
        load(root)


def test_two_files_of_labels(root):
    write(root, "0.png")
    (root / "labels.csv").write_text("0.png,1\n")
    (root / "dataset.json").write_text('{"labels": null}')
    with pytest.raises(ConfigError, match=r"^config\.data\.dir=.*has labels in dataset\.json and in labels\.csv; keep"):
        load(root)


# ---- Channels


def test_all_grey_stays_grey(root):
    Image.new("L", (8, 8), 5).save(root / "0.png")
    Image.new("1", (8, 8), 1).save(root / "1.png")
    Image.fromarray(np.full((8, 8), 257 * 9, np.uint16)).save(root / "2.png")
    Image.new("LA", (8, 8), (0, 0)).save(root / "3.png")
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 77, 77, 77])
    palette.save(root / "4.png")
    dataset = load(root, channels="auto")
    assert (dataset.image_shape, greys(dataset)) == ((8, 8, 1), [5, 255, 9, 255, 77])
    assert dataset.facts["taken as"] == "8x8 grey"
    assert load(root, channels="auto", alpha="red").image_shape == (8, 8, 3)
    assert load(root, channels="auto", alpha="#202020").get(np.array([3]))[0].max() == 32
    assert load(root, channels=4).get(np.array([3]))[0][0, 0, 0].tolist() == [0, 0, 0, 0]
    write(root, "5.png")
    assert load(root, channels="auto").image_shape == (8, 8, 3)
    assert load(root, channels=1).image_shape == (8, 8, 1)


def test_rectangles(root):
    columns = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None], (32, 32, 3))
    Image.fromarray(columns).save(root / "0.png")
    image = load(root, image_size=(16, 32)).get(np.array([0]))[0][0]
    assert np.array_equal(image, columns[:16])
    assert load(root, image_size=(32, 8)).get(np.array([0]))[0][0, 0, :, 0].tolist() == list(range(12, 20))
    assert load(root, image_size=(16, 32)).facts["taken as"] == "32x16 RGB"


def test_the_account_of_sizes(root):
    write(root, *(f"{i}.png" for i in range(3)))
    Image.new("RGB", (30, 20)).save(root / "large.png")
    assert load(root).facts == {
        "from": "a directory, no labels",
        "sizes": "8x8 (3), 30x20 (1)",
        "taken as": "8x8 RGB",
        "classes": "none, the images have no labels",
    }


# ---- A held-out share


def test_a_share_is_held_out_by_name(root):
    write(root, *(f"{i}.png" for i in range(100)))
    config = default_config().data
    config.update(dict(name="images", dir=str(root), image_size=8, held_out=0.25))
    train, held_out = data.load(config), data.load_held_out(config)
    assert sorted(greys(train) + greys(held_out)) == list(range(100))
    assert 15 <= len(held_out) <= 35
    assert train.facts["held out"] == f"{len(held_out)} of 100 (config.data.held_out=0.25)"
    (root / "1000.png").write_bytes((root / "0.png").read_bytes())  # moves no other to the other side
    assert set(greys(data.load_held_out(config))) - {0} == set(greys(held_out)) - {0}
    config.held_out = 0.0
    assert data.load_held_out(config) is None
    config.held_out, config.dir = 0.25, str(packed(root, "stored"))
    assert set(greys(data.load_held_out(config))) - {0} == set(greys(held_out)) - {0}


def test_a_held_out_share_that_cannot_be_read_is_none(root, capsys):
    write(root, *(f"{i}.png" for i in range(60)))
    config = default_config().data
    config.update(dict(name="images", dir=str(root), image_size=8, held_out=0.1, skip_unreadable=True))
    broken = [path for path in root.iterdir() if is_held_out(path.name, 0.1)]
    for path in broken:
        path.write_bytes(b"")
    assert len(data.load(config)) == 60 - len(broken) < 60
    assert data.load_held_out(config) is None
    assert f"warning: no image is held out: {len(broken)} of {len(broken)} images cannot" in capsys.readouterr().err


def test_nothing_to_train_on(root):
    write(root, "0.png")
    with pytest.raises(ConfigError, match=r"^config\.data\.held_out=0\.999999: leaves none of the 1 images"):
        load(root, held_out=0.999999)


def test_arrays_have_channels_and_a_held_out_share(root):
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 4), np.uint8)
    np.savez(root / "x.npz", images=images, labels=np.arange(50) % 3)
    config = default_config().data
    config.update(dict(name="images", dir=str(root / "x.npz"), image_size=8, held_out=0.2, channels=4))
    train, held_out = data.load(config), data.load_held_out(config)
    assert (len(train) + len(held_out), train.num_classes, held_out.num_classes) == (50, 3, 3)
    assert {x.tobytes() for x in images} == {x.tobytes() for x in [*train.images, *held_out.images]}
    for channels, shape in (("auto", (8, 8, 3)), (3, (8, 8, 3)), (1, (8, 8, 1))):
        config.channels = channels
        assert data.load(config).image_shape == shape
