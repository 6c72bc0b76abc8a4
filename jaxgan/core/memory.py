"""How much memory there is, and control of what glibc does with freed memory (nothing, with another C library)."""

import contextlib
import ctypes
import math
import os
from pathlib import Path

import jax

from jaxgan.core.errors import require


def host_bytes() -> float:
    """Returns the memory of this machine, or of the container that the process runs in; inf where nothing says it."""
    if not hasattr(os, "sysconf"):  # Windows
        return math.inf
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        there = min(there, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return there


def device_bytes(device: jax.Device) -> float:
    """Returns the memory that a device has for arrays; the CPU devices of a process share that of the host."""
    known = (device.memory_stats() or {}).get("bytes_limit")
    return known or host_bytes() / (len(device.client.local_devices()) if device.platform == "cpu" else 1)


def tree_bytes(tree) -> int:
    """Returns how many bytes the arrays of a tree take, or would take: `jax.ShapeDtypeStruct`s count as arrays.

    Example:
      >>> tree_bytes({"a": jax.ShapeDtypeStruct((2, 3), "float32")})
      24
    """
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def describe_bytes(count: float) -> str:
    """Returns a number of bytes as people say it.

    Example:
      >>> describe_bytes(2**34), describe_bytes(1000)
      ('16 GiB', '1000 bytes')
    """
    for size, unit in ((2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if count >= size:
            return f"{count / size:,.{0 if count >= 10 * size else 1}f} {unit}"
    return f"{count:.0f} bytes"


def require_memory(setting: str, value, count: int, what: str) -> None:
    """Raises a ConfigError unless `count` bytes fit into the memory of this machine.

    Args:
      setting, value: as in `jaxgan.core.errors.require`.
      count: bytes, all needed at once.
      what: takes them, in the plural, such as "the images".
    """
    there = host_bytes()
    right = f"{what} take {describe_bytes(count)} of memory, and there are {describe_bytes(there)}; give less"
    require(count <= there, setting, value, right)


def retain_freed() -> None:
    """Lets the process keep freed memory from now on instead of returning it to the system.

    Otherwise XLA on the CPU spends much of its time on the page faults of new buffers. Threads keep heaps of their own:
    in a single one (M_ARENA_MAX) malloc takes a quarter of a step's CPU time, after a compilation in this process.
    """
    with contextlib.suppress(OSError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large buffers get no mapping of their own
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks


def release_freed() -> None:
    """Returns freed memory to the system once.

    Compiling a training step leaves about 1 GB behind, in pieces too small to run the step in.
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
