"""What glibc does with memory that is freed; nothing happens with another libc."""

import contextlib
import ctypes


def keep_freed() -> None:
    """Keep it from now on: XLA on the CPU else spends much of its time on the page faults of new buffers."""
    with contextlib.suppress(OSError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large buffer
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap
        libc.mallopt(-8, 1)  # M_ARENA_MAX: one heap, for all threads


def give_back_freed() -> None:
    """Give back once what is kept: compiling a step leaves about 1 GB, in pieces too small to run it in."""
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
