"""What an exception means for whoever typed the command: an exit status, one line, and a traceback in a file."""

import contextlib
import datetime
import errno
import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import cache_directory
from jaxgan.core.memory import describe_bytes

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50, "E": 2**60}


class Kind(NamedTuple):
    """A kind of exception: how it is recognised, the exit status, what it says in one line."""

    includes: Callable[[BaseException], bool]
    status: int
    says: Callable[[BaseException, Path | None], str]  # the error, and the directory of the run if there is one
    has_traceback: Callable[[BaseException], bool] = lambda error: True


def explain(error: BaseException, directory: str | os.PathLike | None = None, advice: str = "") -> tuple[int, str]:
    """Returns the exit status of an error and the line that a person reads; its traceback is in a file that it names.

    Args:
      error: any exception.
      directory: of the run, for the file; see `write_traceback`.
      advice: what to do about it.

    Example:
      >>> explain(ConfigError("--num=0: must be 1 or above"))
      (2, '--num=0: must be 1 or above')
    """
    directory = Path(directory) if directory else None
    kind = next(kind for kind in KINDS if kind.includes(error))
    line = " ".join(kind.says(error, directory).split())
    if advice:
        line += f"; {advice}"
    if kind.has_traceback(error):
        file = write_traceback(error, directory)
        line += f" (traceback: {file})" if file else " (its traceback could be written nowhere)"
    return kind.status, line


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether the memory of the host or of a device did not suffice."""
    on_device = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return on_device or isinstance(error, MemoryError)


def wanted_bytes(error: BaseException) -> float | None:
    """Returns how much memory was asked for when it did not suffice; None where the error does not tell.

    Example:
      >>> wanted_bytes(MemoryError("Unable to allocate 7.5 GiB for an array with shape ...")) / 2**30
      7.5
    """
    found = re.search(r"allocat\w+ ([\d.]+) ?([KMGTPE]?)i?B?", str(error))
    return float(found[1].rstrip(".")) * _UNITS[found[2]] if found else None


def write_traceback(error: BaseException, directory: str | os.PathLike | None = None) -> Path | None:
    """Writes the traceback of an error to a new file `error-<time>.txt`.

    Args:
      error: what was raised.
      directory: where the file belongs, such as that of the run. Where it does not exist or cannot be written to, the
        file is in the temporary directory.

    Returns:
      The path of the file; None if it could be written nowhere.
    """
    name = f"error-{datetime.datetime.now():%Y%m%d-%H%M%S-%f}.txt"
    text = "".join(traceback.format_exception(error))
    for place in (directory, _temporary()):
        if place is not None:
            path = Path(place, name)
            try:
                path.write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                continue
            return path
    return None


def _temporary() -> str | None:
    try:
        return tempfile.gettempdir()
    except OSError:  # no directory can be written to
        return None


def _memory(error: BaseException, directory: Path | None) -> str:
    wanted = wanted_bytes(error)
    first = next(iter(str(error).splitlines()), "").removeprefix("RESOURCE_EXHAUSTED: ")
    return f"out of memory: {describe_bytes(wanted)} wanted at once" if wanted else f"out of memory: {first}"


def _is_full_disk(error: BaseException) -> bool:
    numbers = (errno.ENOSPC, errno.EDQUOT)
    words = "|".join(map(os.strerror, numbers))  # what libraries make of it
    return getattr(error, "errno", None) in numbers or bool(re.search(words, str(error)))


def _full_disk(error: BaseException, directory: Path | None) -> str:
    """Says how much is free: on the disk of the file or, where it is not named, wherever a command writes."""
    named = getattr(error, "filename", None)
    places = (
        [Path(os.fsdecode(named))] if named else [Path(directory or "."), cache_directory(), Path(_temporary() or ".")]
    )
    found = {next(p for p in (place.absolute(), *place.absolute().parents) if p.exists()): place for place in places}
    free = [f"{describe_bytes(shutil.disk_usage(there).free)} in {place}" for there, place in found.items()]
    reason = os.strerror(getattr(error, "errno", None) or errno.ENOSPC)
    where = f"{os.fsdecode(named)}: " if named else ""
    return f"{where}{reason} (free: {', '.join(free)}); make room and run the same command again"


def _operating_system(error: OSError, directory: Path | None) -> str:
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename and error.strerror else str(error)


def _is_without_device(error: BaseException) -> bool:
    """Returns whether JAX found no device: without a plug-in for JAX_PLATFORMS it may also fail an assertion."""
    asserted = isinstance(error, AssertionError) and "xla_bridge.py" in "".join(traceback.format_exception(error))
    return asserted or "Unable to initialize backend" in str(error)


def _backend(error: BaseException, directory: Path | None) -> str:
    platforms = os.environ.get("JAX_PLATFORMS")
    cause = str(error).partition(" (")[0] or "JAX finds no such device, or not what it needs for one"
    return f"JAX_PLATFORMS={platforms!r}: {cause}" if platforms else cause


def _unexpected(error: BaseException, directory: Path | None) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"unexpected {type(error).__name__}: {first[:300]}; please report this, with the traceback"


def _any(*kinds: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, kinds)


def _never(error: BaseException) -> bool:
    return False


# The first kind that includes an error is its own.
KINDS = (
    Kind(_any(ConfigError), 2, lambda error, _: str(error), _never),
    Kind(_any(KeyboardInterrupt), 130, lambda *_: "interrupted", _never),
    # It says all there is to say, unless it stands for another error.
    Kind(_any(RunFailed), 1, lambda error, _: str(error), lambda error: error.__cause__ is not None),
    Kind(is_out_of_memory, 1, _memory),
    Kind(_is_full_disk, 1, _full_disk),
    Kind(_any(OSError), 1, _operating_system),  # a damaged checkpoint, a broken image, ...
    Kind(_is_without_device, 1, _backend),
    Kind(_any(BaseException), 1, _unexpected),
)
