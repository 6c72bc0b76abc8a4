"""Fetches weight files into the user's cache and makes sure that they are the right ones."""

import hashlib
import shutil
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from jaxgan.core.files import announce, as_path, cache_directory, locked

TIMEOUT = 10  # seconds until a network that does not answer counts as none


def sha256(path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(name: str, url: str, sha256_prefix: str, given: str | None = None) -> Path:
    """Returns a weight file on this machine: the one that the user gave, else the one in the cache, else a download.

    A download gets its name when it is complete and verified, so processes may start, or be killed, at any time.

    Args:
      name: the file's name in the cache, `cache_directory("weights")`.
      url: where it is downloaded from if it is not there.
      sha256_prefix: how the SHA-256 of the file begins, as in file names of torch.hub.
      given: a path that is taken as it is, whatever its hash.

    Raises:
      FileNotFoundError: `given` is no file.
      OSError: there is no network.
      ValueError: the file has another hash.
    """
    if given is not None:
        path = as_path(given, "weights", local=True)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such weight file; it can be downloaded from {url}")
        return path
    path = cache_directory("weights", name)
    advice = f"put it at {path} yourself, or use --metrics=fd_cifar, which needs no download"
    with locked(path.parent):
        if path.exists():
            _verify(path, path, sha256_prefix, f"remove it and fetch {url}")
            return path
        for abandoned in path.parent.glob(".download-*"):  # by a process that was killed
            shutil.rmtree(abandoned)
        announce(f"Downloading {url} to {path} (once) ...")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as temporary:
            complete = Path(temporary, "complete")
            try:
                with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(complete, "wb") as file:
                    shutil.copyfileobj(response, file, 2**20)
            except (OSError, HTTPException) as error:
                raise OSError(f"could not download {url} ({error}): {advice}") from error
            _verify(complete, url, sha256_prefix, advice)
            return complete.rename(path)


def _verify(path, what, prefix, advice):
    digest = sha256(path)
    if not digest.startswith(prefix):
        raise ValueError(f"{what} is damaged or another file (SHA-256 {digest[:16]}..., not {prefix}...): {advice}")
