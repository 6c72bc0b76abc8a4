"""Paths that people name, files that survive a kill, locks between processes, and the user's cache."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import url2pathname

import filelock
from etils import epath

from jaxgan.core.errors import ConfigError, RunFailed, require

LOOKING = 1.0  # seconds that `sole_user` waits for who only looks, as `is_held` does


def as_path(value, setting: str = "path", *, local: bool = False, new: bool = False) -> Path | epath.Path:
    """Returns the place that a flag, a setting or an argument names, absolute as seen from the current directory.

    Args:
      value: a string or a path. `~` and `~user` are homes, file:// is this machine, gs:// or s3:// a bucket.
      setting: where `value` comes from, for the error.
      local: refuse a bucket.
      new: something will be made there: what there is of the way to it must be directories that can be written into.

    Returns:
      A pathlib.Path, or an etils.epath.Path for a bucket; both have the same methods.

    Raises:
      ConfigError: `value` is empty, of another type, or of a scheme that etils.epath does not know.

    Example:
      >>> as_path("~/runs/mine") == Path.home() / "runs" / "mine"
      True
      >>> str(as_path("gs://bucket/run/"))
      'gs://bucket/run'
    """
    require(isinstance(value, str | os.PathLike), setting, value, "must be a path")
    text = os.fspath(value)
    require(isinstance(text, str) and text != "" and "\0" not in text, setting, text, "must be a path")
    right = "write a bucket as a string, such as 'gs://bucket/run'; pathlib takes one slash away"
    require(not re.match(r"[a-z]\w+:/(?!/)", text), setting, text, right)
    if is_remote(text):
        require(not local, setting, text, "must be on this machine")
        try:
            return epath.Path(text)
        except KeyError:
            raise ConfigError(f"{setting}={text!r}: no such places are known here, but gs:// and s3://") from None
    if text.startswith("file://"):
        path = Path(url2pathname(text.removeprefix("file://")))
        require(path.is_absolute(), setting, text, "write three slashes, as in file:///data/images")
    else:
        try:
            path = Path(text).expanduser().absolute()
        except RuntimeError:
            raise ConfigError(f"{setting}={text!r}: this home is not known here; give a path without ~") from None
    if ".." in path.parts:  # so that one place has one name; behind a link, only the system knows where `..` leads
        path = path.resolve()
    if new:
        parent = next((parent for parent in path.parents if parent.exists()), path.parent)
        there = path if os.path.isdir(path) else parent
        require(there.is_dir(), setting, text, f"{there} is a file, no directory")
        require(os.access(there, os.W_OK), setting, text, f"nothing can be written into {there}")
    return path


def is_remote(path) -> bool:
    """Returns whether a path has a scheme, such as gs://, other than file://."""
    return bool(re.match(r"(?!file:)[A-Za-z][\w+.-]*://", str(path)))


def same_place(a, b) -> bool:
    """Returns whether two paths name one place, however each of them is written."""
    a, b = (path.resolve() if isinstance(path, Path) else path for path in map(as_path, (a, b)))
    return a == b


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Writes a whole file: whoever reads `path`, even after a kill, finds the old or the new content."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # a full disk does not say which
        error.filename = error.filename or str(path)
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: Path | epath.Path, *keys: str, advice: str = "remove it"):
    """Returns what a JSON file holds, or what is below `keys` in it.

    Raises:
      RunFailed: it is damaged; the message names the file and, where there is one, the line, and ends with the advice.
    """
    try:
        value = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise RunFailed(f"{path}, line {error.lineno}: damaged, no JSON ({error.msg}); {advice}") from None
    except UnicodeDecodeError as error:
        raise RunFailed(f"{path}: damaged, no text ({error.reason}); {advice}") from None
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise RunFailed(f"{path}: damaged, it holds no {'.'.join(keys)}; {advice}")
        value = value[key]
    return value


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lets one process at a time prepare what goes into `directory`, which is created if it does not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(directory / ".lock"):  # let go by a kill too
        yield


@contextlib.contextmanager
def sole_user(directories: Mapping[str, Path | epath.Path]) -> Iterator[None]:
    """Keeps others out of local directories that exist, {setting: path}; buckets among them have no locks.

    Raises:
      ConfigError: another process has one of them; the message names its setting.
    """
    places = {path.resolve(): setting for setting, path in directories.items() if not is_remote(path)}
    with contextlib.ExitStack() as held:
        for place, setting in places.items():
            try:
                held.enter_context(filelock.FileLock(place / ".lock", timeout=LOOKING))
            except filelock.Timeout:
                raise ConfigError(f"{setting}={str(place)!r}: another process is training there") from None
        yield


def is_held(directory: Path) -> bool:
    """Returns whether a process has this local directory as its `sole_user`, as far as one may look."""
    lock = directory / ".lock"
    try:
        with filelock.FileLock(lock, blocking=False) if lock.exists() else contextlib.nullcontext():
            return False
    except filelock.Timeout:
        return True
    except (OSError, NotImplementedError):  # not ours, a disk that is read-only, or one without locks
        return False


def cache_directory(*parts: str) -> Path:
    """Returns a path in the user's cache, ~/.cache/jaxgan or $XDG_CACHE_HOME/jaxgan; it may not exist yet.

    Users may delete the cache at any time. Where it cannot be written to, as in containers whose user has no home, it
    is in the temporary directory, and a line says so.

    Example:
      cache_directory("weights")
      PosixPath('/home/ada/.cache/jaxgan/weights')
    """
    return _writable(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")).joinpath(*parts)


@functools.cache
def _writable(caches: str) -> Path:
    """Returns the directory for jaxgan in `caches`, or one in the temporary directory, after making it."""
    path = Path(caches, "jaxgan")
    try:
        if caches.startswith("~"):  # the user has neither HOME nor an entry in /etc/passwd
            raise FileNotFoundError(errno.ENOENT, "this user has no home directory")
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return path
    except OSError as error:
        user = os.getuid() if hasattr(os, "getuid") else 0  # Windows has a temporary directory for each user
        instead = Path(tempfile.gettempdir(), f"jaxgan-{user}")
        with contextlib.suppress(FileExistsError):
            instead.mkdir(mode=0o700)
        if instead.is_symlink() or instead.stat().st_uid != user:  # programs that another user put there
            instead = Path(tempfile.mkdtemp(prefix="jaxgan-"))
        announce(
            f"cannot write to the cache in {path} ({error.strerror}); it is in {instead} (XDG_CACHE_HOME moves it)"
        )
        return instead


def keyed_cache_directory(kind: str, *key: str) -> Path:
    """Returns the directory in the user's cache for results that took a while to compute.

    Args:
      kind: what the results are, in a word, such as "decoded".
      key: everything that the results depend on; another key gives another directory.
    """
    return cache_directory(hashlib.sha256("\0".join(key).encode()).hexdigest()[:16], kind)


def announce(line: str) -> None:
    """Prints a line to stderr, such as why the next step takes a while."""
    print(line, file=sys.stderr, flush=True)


def make_directories(directories: dict) -> None:
    """Makes local directories, {setting: path}; where one cannot be, a ConfigError names it and none is left behind."""
    made = []
    for setting, directory in directories.items():
        if is_remote(directory):  # a bucket has none
            continue
        path = Path(directory)
        try:
            missing = [parent for parent in (path, *path.parents) if not parent.exists()]
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            for empty in made:
                empty.rmdir()
            raise ConfigError(f"{setting}={str(directory)!r}: cannot be made: {error.strerror}") from error
        made = missing + made
