"""Ctrl-C while nothing can take an exception, and exceptions of signals that Python can only print."""

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator


def ctrl_c_ends_at_once() -> None:
    """Lets a Ctrl-C end this process with a line, and without an exception, which an import does not always survive."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as after nohup
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame) -> None:
    with contextlib.suppress(OSError):  # a daemon may have closed it
        os.write(2, b"error: interrupted before anything was done\n")  # print may be what is interrupted
    os._exit(128 + number)


def ctrl_c_raises() -> None:
    """Ends what `ctrl_c_ends_at_once` began."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def if_lost(kind: type[BaseException], call: Callable[[], None]) -> Iterator[None]:
    """Calls a function instead of printing an exception of a kind that is lost in here.

    That happens in a finaliser, and in what C calls back, such as at a garbage collection.
    """
    print_it, inside = sys.unraisablehook, True

    def hook(unraisable):
        if inside and isinstance(unraisable.exc_value, kind):
            call()
        else:
            print_it(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        inside = False
        if sys.unraisablehook is hook:  # and none that was put before it since
            sys.unraisablehook = print_it


def no_lost_ctrl_c() -> contextlib.AbstractContextManager:
    """Makes a Ctrl-C come again where its KeyboardInterrupt is lost."""

    def again():
        time.sleep(0.2)  # until the main thread has left the finaliser
        send(signal.SIGINT)

    # Not a threading.Timer, whose start waits for the thread: the signal could come there, and be lost again.
    return if_lost(KeyboardInterrupt, lambda: _thread.start_new_thread(again, ()))


def send(number: int) -> None:
    """Sends this process a signal, to the main thread where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, number)  # which ends a sleep, too
    else:
        signal.raise_signal(number)
