"""The table of formats: one picture in every form that users have them in, and what comes of it."""

import json
import struct
import sys
import tarfile
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.settings import default_config

LEFT, RIGHT, WHITE = (250, 10, 40), (20, 60, 200), (255, 255, 255)
PICTURE = np.full((8, 8, 3), LEFT, np.uint8)
PICTURE[:, 4:] = RIGHT
GREY = np.full((8, 8), 200, np.uint8)
GREY[:, 4:] = 50
CLEAR = np.uint8(np.indices((8, 8))[1] < 4) * 255  # the right half is transparent
TURNED = Image.Exif()
TURNED[0x0112] = 6  # shown after a quarter turn clockwise: the left half is on top


class Case(NamedTuple):
    """A file or a few, and what comes of them."""

    files: dict[str, Any]  # by name: an image, (an image, options of `save`), or bytes
    taken_as: str = "8x8 RGB"
    corners: tuple = (LEFT, RIGHT, LEFT)  # above left, above right, below left
    labels: tuple[int, ...] = (0,)
    changes: dict[str, Any] | None = None  # of config.data
    packed: str = ""  # how the files are put into one
    error: str = ""  # in place of all that
    not_read: str = ""


def image(array, mode=None) -> Image.Image:
    return Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)


def grey_of_16_bits(grey, alpha) -> bytes:
    """Returns a PNG of grey levels and transparency of 16 bits, which Pillow reads but does not write."""
    rows = np.dstack([grey, alpha]).astype(">u2") * 257
    lines = np.hstack([np.zeros((8, 1), np.uint8), rows.view(np.uint8).reshape(8, -1)])  # 0: no filter
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


RGBA = image(np.dstack([PICTURE, CLEAR]))
GREY_CORNERS = (200, 50, 200)
GREYS_IN_RGB = ((200,) * 3, (50,) * 3, (200,) * 3)
PNG = image(PICTURE)
DAMAGED = {"a.png": PNG, "f.png": b"\x89PNG\r\n\x1a\n"}
ANIMATION = dict(save_all=True, append_images=[image(PICTURE[:, ::-1])])
PAIR = {"a/0.png": PNG, "b/1.png": PNG}
INDEX = {"0.png": PNG, "1.png": PNG, "2.png": PNG}
CASES = {
    "PNG, RGB": Case({"f.png": PNG}),
    "PNG, grey": Case({"f.png": image(GREY)}, "8x8 grey", GREY_CORNERS),
    "PNG, grey, asked for as RGB": Case({"f.png": image(GREY)}, corners=GREYS_IN_RGB, changes=dict(channels=3)),
    "PNG, grey of 16 bits": Case({"f.png": image(np.uint16(GREY) * 257 + 100)}, "8x8 grey", GREY_CORNERS),
    "PNG, black and white": Case(
        {"f.png": image(GREY).point(lambda v: 255 * (v > 99), "1")}, "8x8 grey", (255, 0, 255)
    ),
    "PNG, palette": Case({"f.png": PNG.quantize(2)}),
    "PNG, palette of greys": Case({"f.png": image(GREY).convert("RGB").quantize(2)}, "8x8 grey", GREY_CORNERS),
    "PNG, RGBA": Case({"f.png": RGBA}, corners=(LEFT, WHITE, LEFT)),
    "PNG, RGBA on another colour": Case({"f.png": RGBA}, corners=(LEFT, (0, 0, 255), LEFT), changes=dict(alpha="blue")),
    "PNG, RGBA as four channels": Case(
        {"f.png": RGBA}, "8x8 RGBA", ((*LEFT, 255), (*RIGHT, 0), (*LEFT, 255)), changes=dict(channels=4)
    ),
    "PNG, grey with transparency": Case({"f.png": image(np.dstack([GREY, CLEAR]))}, "8x8 grey", (200, 255, 200)),
    "PNG, grey of 16 bits with transparency": Case(
        {"f.png": grey_of_16_bits(GREY, CLEAR)}, "8x8 grey", (200, 255, 200)
    ),
    "APNG, animated": Case({"f.png": (PNG, ANIMATION)}),
    "JPEG, RGB": Case({"f.jpg": PNG}),
    "JPEG, grey": Case({"f.jpeg": image(GREY)}, "8x8 grey", GREY_CORNERS),
    "JPEG, CMYK": Case({"f.jpg": PNG.convert("CMYK")}),
    "JPEG, turned by EXIF": Case({"f.JPG": (PNG, dict(exif=TURNED))}, corners=(LEFT, LEFT, RIGHT)),
    "WebP": Case({"f.webp": (PNG, dict(lossless=True))}),
    "GIF, animated": Case({"f.gif": (PNG, ANIMATION)}),
    "BMP": Case({"f.bmp": PNG}),
    "TIFF, floats": Case({"f.tiff": image(np.float32(GREY / 255))}, "8x8 grey", GREY_CORNERS),
    "TIFF, floats beyond 0 .. 1": Case(
        {"f.tif": image(np.float32(GREY))}, error=r"its floats are in 50 \.\. 200; scale"
    ),
    "TIFF, 16 bits": Case({"f.tif": image(np.uint16(GREY) * 257)}, "8x8 grey", GREY_CORNERS),
    "HEIC, without pillow-heif": Case(
        {"f.heic": b"ftypheic"}, error="holds 1 .heic images, which take pip install pillow-heif"
    ),
    "PSD": Case({"f.psd": b"8BPS", "f.png": PNG}, not_read="1 .psd (save it as PNG)"),
    "a grey one beside one in colour": Case({"0.png": image(GREY), "1.png": PNG}, corners=GREYS_IN_RGB, labels=(0, 0)),
    "cut short": Case(DAMAGED, error="1 of 2 images cannot be read: .*f.png"),
    "cut short, config.data.skip_unreadable=True": Case(
        DAMAGED, changes=dict(skip_unreadable=True), not_read="1 unreadable (f.png)"
    ),
    "zip, stored": Case(PAIR, labels=(0, 1), packed="stored"),
    "zip, deflated": Case(PAIR, labels=(0, 1), packed="deflated"),
    "tar": Case(PAIR, labels=(0, 1), packed="tar"),
    "tar shards of a webdataset": Case(
        {"0.png": PNG, "0.cls": b"3", "1.png": PNG, "1.cls": b"1"}, labels=(3, 1), packed="shards"
    ),
    "npz": Case({"f.npz": dict(images=PICTURE[None], labels=[2])}, labels=(2,), packed="npz"),
    "sub-directories": Case(PAIR, labels=(0, 1)),
    "dataset.json": Case(
        INDEX | {"dataset.json": json.dumps({"labels": [["0.png", 2], ["1.png", 0]]}).encode()},
        labels=(2, 0),
        not_read="1 beside dataset.json but not in it",
    ),
    "labels.csv": Case(
        INDEX | {"labels.csv": b"file,label\n0.png,tabby\n1.png,persian\n2.png,tabby"}, labels=(1, 0, 1)
    ),
    "rectangle, cropped": Case({"f.png": image(PICTURE.repeat(2, axis=0))}, "8x4 RGB", changes=dict(image_size=(4, 8))),
    "rectangle, stretched": Case({"f.png": PNG}, "4x8 RGB", changes=dict(image_size=(8, 4), crop="none")),
}


def write(root, case: Case):
    """Writes a case's files below `root` and returns what is to be opened."""
    for name, content in case.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, dict):
            np.savez(path, **content)
        else:
            picture, options = content if isinstance(content, tuple) else (content, {})
            picture.save(path, **({"quality": 100} if path.suffix.lower().startswith(".jp") else {}), **options)
    files, place = sorted(path for path in root.rglob("*") if path.is_file()), root.parent
    if case.packed in ("stored", "deflated"):
        with zipfile.ZipFile(place / "f.zip", "w", getattr(zipfile, f"ZIP_{case.packed.upper()}")) as archive:
            for file in files:
                archive.write(file, file.relative_to(root))
        return place / "f.zip"
    if case.packed in ("tar", "shards"):
        (place / "tars").mkdir()
        shards = {"tar": [files], "shards": [files[:2], files[2:]]}[case.packed]
        for i, shard in enumerate(shards):
            with tarfile.open(place / "tars" / f"{i}.tar", "w") as archive:
                for file in shard:
                    archive.add(file, file.relative_to(root).as_posix())
        return place / "tars" / "0.tar" if case.packed == "tar" else place / "tars"
    return root / "f.npz" if case.packed == "npz" else root


@pytest.mark.parametrize("kind", CASES)
def test_what_comes_of_a_format(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    case, root = CASES[kind], tmp_path / "images"
    config = default_config().data
    config.update(dict(name="images", dir=str(write(root, case)), image_size=8, held_out=0.0) | (case.changes or {}))
    if case.error:
        with pytest.raises((ValueError, OSError), match=case.error) as error:
            data.load(config)
        assert "\n" not in str(error.value)
        return
    dataset = data.load(config)
    images, labels = dataset.get(np.arange(len(dataset)))
    assert tuple(labels) == case.labels
    assert dataset.facts["taken as"] == case.taken_as
    assert dataset.facts.get("not read", "") == case.not_read
    corners = np.stack([images[0, y, x] for y, x in ((0, 0), (0, -1), (-1, 0))])
    expected = np.reshape(case.corners, (3, -1))
    assert corners.shape == expected.shape
    is_lossy = "JPEG" in kind or "stretched" in kind
    np.testing.assert_allclose(corners, expected, atol=5 if is_lossy else 0)
