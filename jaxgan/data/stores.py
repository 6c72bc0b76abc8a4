"""Where encoded images lie: a directory, a zip, or tar archives, whose members are read where they are."""

import collections
import io
import json
import os
import re
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from jaxgan.core.array_file import NotKept, keeping
from jaxgan.core.errors import ConfigError, require
from jaxgan.core.files import announce, as_path, atomic_write, keyed_cache_directory
from jaxgan.core.integrity import Damaged, seal, unseal
from jaxgan.data.scan import LABEL_FILES, Scan, natural, readable_suffixes, reason_to_pass_over, scan

MOST_BYTES = 2**30  # of an image file; of a longer one only so much is unpacked
HEAD = 2**16
KINDS = "a directory of images, a FILE.zip, a FILE.tar or a directory of them, or a FILE.npz"
INDEX_VERSION = 2  # of the kept index of a tar archive


class Member(NamedTuple):
    """An image file."""

    name: str  # what labels are looked up by, with "/"
    place: str  # below the root, for people, and unlike that of any other
    stamp: str  # changes when the image does


class Directory:
    """The image files below a directory."""

    kind = "directory"

    def __init__(self, root: Path, found: Scan):
        self.root, self.passed_over, self.labels = root, found.passed_over, {}
        self.members = [Member(name, name, f"{s.st_size} {s.st_mtime_ns}") for name, s in found.images.items()]

    def open(self, i: int) -> Path:
        """Returns what Pillow opens for member i."""
        return self.root / self.members[i].place

    head = open  # of a file, Pillow reads no more than it needs

    def label_files(self) -> dict[str, bytes]:
        """Returns the contents of the label files at the root by their names."""
        return {name: (self.root / name).read_bytes() for name in LABEL_FILES if (self.root / name).is_file()}


class Archives:
    """The image files in a zip or in tar archives, read by any number of threads at the offsets of their bytes.

    Attributes:
      kind: "zip" or "tar".
      root: what its members are below: the file, or the directory of several.
      members: the images.
      passed_over: how many other members there are, by reason; `no_files` of tars are links, devices and the like.
      labels: of tar archives, what stands in the file NAME.cls of webdataset's samples, by index.
    """

    def __init__(self, kind: str, root: Path, files: list[Path], entries: list["Entry"], no_files: int = 0):
        self.kind, self.root, self._files = kind, root, files
        unique = {(entry.file, entry.name): entry for entry in entries}  # the last of a name, as unpacking leaves it
        common = _common_directory([entry.name for entry in unique.values()])
        stamps = [os.stat(file) for file in files]
        chosen, self._label_entries, words = {}, {}, {}
        counts = {"replaced by a later member of its name": len(entries) - len(unique), "no regular file": no_files}
        passed_over = collections.Counter({reason: count for reason, count in counts.items() if count})
        suffixes = readable_suffixes()
        for entry in unique.values():
            name = entry.name.removeprefix(common)
            place = name if root in files else f"{files[entry.file].name}/{name}"
            stem, _, ending = name.rpartition("/")[2].partition(".")
            sample = (entry.file, name[: len(name) - len(ending) - 1])
            if name in LABEL_FILES:
                self._label_entries[name] = entry
            elif ending == "cls" and stem and kind == "tar":
                words[sample] = self._bytes(entry).decode("utf-8", "replace").strip()
            elif reason := reason_to_pass_over(name, suffixes):
                passed_over[reason] += 1
            else:
                stat = stamps[entry.file]
                chosen[place] = (Member(name, place, f"{entry} {stat.st_size} {stat.st_mtime_ns}"), entry, sample)
        order = sorted(chosen, key=lambda place: [natural(part) for part in place.split("/")])
        self.members = [chosen[place][0] for place in order]
        self._entries = [chosen[place][1] for place in order]
        samples = [chosen[place][2] for place in order]
        self.labels = {i: words[sample] for i, sample in enumerate(samples) if sample in words}
        self.passed_over = dict(sorted(passed_over.items()))

    def open(self, i: int) -> io.BytesIO:
        """Returns what Pillow opens for member i; raises a ValueError where its bytes are not what was packed."""
        return io.BytesIO(self._bytes(self._entries[i]))

    def head(self, i: int) -> io.BytesIO:
        """Returns the first bytes of member i, which are enough for most headers."""
        return io.BytesIO(self._bytes(self._entries[i], HEAD))

    def label_files(self) -> dict[str, bytes]:
        """Returns the contents of the label files at the root by their names."""
        return {name: self._bytes(entry) for name, entry in self._label_entries.items()}

    def _bytes(self, entry: "Entry", most: int = MOST_BYTES) -> bytes:
        """Returns the bytes of a member; if they are more than `most`, the first ones, which are not checked."""
        with self._files[entry.file].open("rb", buffering=0) as file:
            file.seek(entry.offset)
            if self.kind == "zip":
                header = file.read(30)
                if len(header) < 30 or header[:4] != b"PK\3\4":
                    raise ValueError("there is no member at its offset")
                file.seek(sum(struct.unpack("<HH", header[26:])), io.SEEK_CUR)  # its name, and what else it has
            packed = file.read(min(entry.packed, most))
        if entry.method == zipfile.ZIP_DEFLATED:
            content = zlib.decompressobj(-15).decompress(packed, most)
        elif entry.method == zipfile.ZIP_STORED:
            content = packed
        else:
            raise ValueError("only stored and deflated members can be read, without a password")
        if max(entry.size, entry.packed) > most:
            return content
        if len(packed) < entry.packed:
            raise ValueError("the archive ends before it")
        if len(content) != entry.size or (entry.crc is not None and zlib.crc32(content) != entry.crc):
            raise ValueError("its bytes are not those that were packed")
        return content


class Entry(NamedTuple):
    """A member of an archive, as its index has it."""

    name: str
    file: int  # which archive
    offset: int  # of its bytes in a tar, of its header in a zip
    packed: int  # bytes in the archive
    size: int  # bytes unpacked
    method: int = zipfile.ZIP_STORED
    crc: int | None = None  # of a zip


def open_store(path: str, setting: str) -> Directory | Archives | Path:
    """Returns what holds the images at `path`, by what is there; the path itself is a file of arrays.

    Args:
      path: a directory, FILE.zip, FILE.tar, FILE.npz or a directory of FILE.tar.
      setting: what `path` came from, for the error.
    """
    root = check_place(path, setting)
    if root.is_dir():
        found = scan(root)
        shards = sorted((f for f in root.iterdir() if ending(f) == ".tar"), key=lambda file: natural(file.name))
        return Directory(root, found) if found.images or not shards else _tars(root, shards, setting, path)
    if ending(root) == ".zip":
        return Archives("zip", root, [root], _zip_entries(root, setting, path))
    return _tars(root, [root], setting, path) if ending(root) == ".tar" else root


def ending(path: Path) -> str:
    """Returns the ending of a file's name, as if it were in lower case, such as ".zip"."""
    return path.suffix.lower()


def check_place(path: str, setting: str) -> Path:
    """Returns the full path of what may hold images; raises a ConfigError that names `setting` where nothing does."""
    require(bool(path), setting, path, f"name {KINDS}")
    root = as_path(path, setting, local=True).resolve()
    require(root.exists(), setting, path, "there is no such directory or file")
    packed = re.search(r"\.(tar\.\w+|tgz|tbz2?|txz)$", root.name.lower())
    right = "a compressed tar has no random access: unpack it, or make a zip of its images"
    require(packed is None, setting, path, right)
    good = root.is_dir() or ending(root) in (".zip", ".tar", ".npz")
    require(good, setting, path, f"name {KINDS}")
    return root


def _zip_entries(path: Path, setting: str, given: str) -> list[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not _member_name(info).endswith("/")]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{setting}={given!r}: cannot be read: {error}") from error
    methods = {info.compress_type for info in infos} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    names = " and ".join(zipfile.compressor_names.get(method, f"method {method}") for method in sorted(methods))
    require(not methods, setting, given, f"is packed by {names}; make a zip whose members are stored or deflated")
    return [
        Entry(
            _member_name(info),
            0,
            info.header_offset,
            info.compress_size,
            info.file_size,
            -1 if info.flag_bits & 1 else info.compress_type,  # 1: encrypted
            info.CRC,
        )
        for info in infos
    ]


def _member_name(info: zipfile.ZipInfo) -> str:
    """Returns a member's name with "/", though some programs for Windows write its directories with a backslash."""
    return info.filename if "/" in info.filename else info.filename.replace("\\", "/")


def _tars(root: Path, files: list[Path], setting: str, given: str) -> Archives:
    entries, no_files = [], 0
    for number, file in enumerate(files):
        try:
            index = _tar_index(file)
            entries += [Entry(name, number, offset, size, size) for name, offset, size in index["members"]]
            no_files += index["no files"]
        except (OSError, tarfile.TarError) as error:
            name = "" if file == root else f"{file.name} "
            raise ConfigError(f"{setting}={given!r}: {name}cannot be read: {error}") from error
    return Archives("tar", root, files, entries, no_files)


def _tar_index(path: Path) -> dict:
    """Returns "members", [name, offset, bytes] of each file in a tar, and "no files", how many others there are.

    It is made once, and kept, as all headers must be read.
    """
    stat = os.stat(path)
    key = f"{str(path)!a} {stat.st_size} {stat.st_mtime_ns} {INDEX_VERSION}"
    file = keyed_cache_directory("tar-index", key) / "index.json"
    try:
        return unseal(json.loads(file.read_bytes()))
    except (OSError, ValueError, Damaged):
        with tarfile.open(path, "r:") as archive:
            found = [m for m in archive if not m.isdir()]
    members = [[m.name.removeprefix("./"), m.offset_data, m.size] for m in found if m.isreg() and not m.sparse]
    index = {"members": members, "no files": len(found) - len(members)}
    try:
        with keeping():
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, json.dumps(seal(index)).encode())
    except NotKept as error:
        announce(f"warning: the index of {path} is made at each start: {error}")
    return index


def _common_directory(names: list[str]) -> str:
    """Returns the directory, with its "/", that all members of an archive are in; "" where they have none in common.

    Example:
      >>> _common_directory(["photos/cat/1.png", "photos/dog/2.png", "__MACOSX/photos/._1.png"])
      'photos/'
    """
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if not names:
        return ""
    common = os.path.commonpath([f"./{os.path.dirname(name)}" for name in names])
    return common.removeprefix("./") + "/" if common != "." else ""
