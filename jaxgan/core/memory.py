"""Control of what glibc does with freed memory; every function does nothing where another C library is used."""

import contextlib
import ctypes


def retain_freed() -> None:
    """Lets the process keep freed memory from now on instead of returning it to the system.

    Otherwise XLA on the CPU spends much of its time on the page faults of new buffers.
    """
    with contextlib.suppress(OSError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large buffers get no mapping of their own
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks
        libc.mallopt(-8, 1)  # M_ARENA_MAX: all threads share one heap


def release_freed() -> None:
    """Returns freed memory to the system once.

    Compiling a training step leaves about 1 GB behind, in pieces too small to run the step in.
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
