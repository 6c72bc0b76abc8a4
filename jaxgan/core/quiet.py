"""What orbax prints of failures that its calls raise too, and that become one warning or error in checkpoint.py."""

import logging
import re
import sys
import traceback

from absl import logging as absl_logging


def silence_orbax() -> None:
    """Keeps from the console what orbax, tensorstore and asyncio say of a read or write whose failure is raised."""
    absl_logging.get_absl_logger().addFilter(lambda record: "/orbax/checkpoint/" not in record.pathname)
    logging.getLogger("asyncio").addFilter(lambda record: not is_of_orbax(record))
    sys.unraisablehook = _pass_by_closed_loops


def is_of_orbax(record: logging.LogRecord) -> bool:
    """Returns whether a record of asyncio says that nobody asked for the failure of one of orbax's reads or writes.

    Many are under way at once, and the first one that fails is raised.
    """
    error = record.exc_info[1] if record.exc_info else None
    words = record.getMessage() + "".join(traceback.format_exception(error))
    of_orbax = re.search(r"/orbax/checkpoint/|orbax-checkpoint-tmp", words)
    return "exception was never retrieved" in words and of_orbax is not None


def _pass_by_closed_loops(unraisable, print_it=sys.unraisablehook) -> None:
    """Prints an exception that nobody can catch, but not of writes that fail after a first one.

    Where a disk is full, tensorstore tells an event loop that orbax has closed of each of them.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        print_it(unraisable)
