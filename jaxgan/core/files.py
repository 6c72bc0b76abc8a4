"""Files that survive a kill, locks between processes, and the user's cache."""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import sys
import tempfile
from pathlib import Path


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Writes a whole file: whoever reads `path`, even after a kill, finds the old or the new content."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk does not say which
        error.filename = error.filename or str(path)
        raise
    os.replace(temporary, path)


@contextlib.contextmanager
def locked(directory: Path):
    """Lets one process at a time prepare what goes into `directory`, which is created if it does not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # held until the file is closed, which a kill does too
        yield


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
        instead = Path(tempfile.gettempdir(), f"jaxgan-{os.getuid()}")
        with contextlib.suppress(FileExistsError):
            instead.mkdir(mode=0o700)
        if instead.is_symlink() or instead.stat().st_uid != os.getuid():  # programs that another user put there
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
