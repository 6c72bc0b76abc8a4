"""A bar on stderr for what takes a while."""

import contextlib
import sys
import time

import tqdm

from jaxgan.core.files import announce


@contextlib.contextmanager
def progress(total: int, what: str, done: int = 0, show: bool = True):
    """Yields a function that is told how many more images are done.

    It draws a bar on stderr if that is a terminal; a log file gets a line every half minute.
    """
    if not show:
        yield lambda more: None
    elif sys.stderr.isatty():
        with tqdm.tqdm(total=total, initial=done, desc=what, unit=" images", leave=False, mininterval=0.2) as bar:
            yield bar.update
    else:
        said = time.monotonic()

        def update(more: int) -> None:
            nonlocal done, said
            done += more
            if time.monotonic() - said >= 30:
                announce(f"{what}: {done:,} of {total:,} images")
                said = time.monotonic()

        yield update
