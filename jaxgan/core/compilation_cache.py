"""Keeps compiled programs between runs, and replaces those that are damaged on the disk."""

import collections
import contextlib
import functools
import glob
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import jax

from jaxgan.core.files import announce, cache_directory

_PROBLEM = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)", re.DOTALL)


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache, unless JAX_COMPILATION_CACHE_DIR says otherwise.

    JAX warns of an entry that it cannot read, compiles, and leaves the entry as it is for the next run to be warned of.
    Here the warning removes the entry, so that what is compiled is written anew.
    """
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory("xla")))
    if not isinstance(warnings.showwarning, _RemovesDamaged):  # each run of a process comes here
        warnings.showwarning = _RemovesDamaged(warnings.showwarning)


class _RemovesDamaged:
    """Shows warnings as before, but removes the entries of the cache that they call damaged, and says so."""

    def __init__(self, show: Callable):
        self._show = show

    def __call__(self, message, *args, **kwargs) -> None:
        if not (found := _PROBLEM.match(str(message))):
            return self._show(message, *args, **kwargs)
        action, program, reason = found.groups()
        directory = jax.config.jax_compilation_cache_dir
        for entry in Path(directory).glob(f"{glob.escape(program)}-*"):
            with contextlib.suppress(OSError):
                entry.unlink()
        what = {"reading": "damaged, so it is compiled anew", "writing": "not kept"}[action]
        announce(f"compiled program {program} in {directory}: {what} ({' '.join(reason.split())})")


@functools.cache
def _events() -> collections.Counter:
    """Returns how often JAX found a program in its cache, and how often it did not; counted from the first call on."""
    counts = collections.Counter()
    jax.monitoring.register_event_listener(lambda event, **_: counts.update([event]))
    return counts


def found_and_missed() -> tuple[int, int]:
    """Returns how many programs came from the cache and how many went into it, since the first call."""
    return tuple(_events()[f"/jax/compilation_cache/cache_{what}"] for what in ("hits", "misses"))
