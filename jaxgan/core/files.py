"""Files that survive a kill, locks between processes, and the user's cache."""

import contextlib
import fcntl
import hashlib
import os
import sys
from pathlib import Path


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Write a whole file; whoever reads `path`, even after a kill, finds the old or the new content."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextlib.contextmanager
def locked(directory: Path):
    """Let one process at a time prepare what goes into `directory`, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed, by a kill too
        yield


def cache_root() -> Path:
    """~/.cache/jaxgan (or below $XDG_CACHE_HOME), which may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "jaxgan")


def cache_home(kind: str, *key: str) -> Path:
    """Where to keep what took a while to compute and has no better place: `kind` in a word, identified by `key`."""
    return cache_root() / hashlib.sha256("\0".join(key).encode()).hexdigest()[:16] / kind


def say(line: str):
    """Tell the person at the terminal why it takes a moment."""
    print(line, file=sys.stderr, flush=True)
