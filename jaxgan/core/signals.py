"""Exceptions that a signal raises where Python can only print them: in a finaliser, or in a callback of C."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def if_lost(kind: type[BaseException], call: Callable[[], None]) -> Iterator[None]:
    """Calls a function instead of printing an exception of a kind that is lost in here."""
    print_it = sys.unraisablehook

    def hook(unraisable):
        if isinstance(unraisable.exc_value, kind):
            call()
        else:
            print_it(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = print_it


def no_lost_ctrl_c() -> contextlib.AbstractContextManager:
    """Makes a Ctrl-C come again where its KeyboardInterrupt is lost."""
    return if_lost(KeyboardInterrupt, lambda: threading.Timer(0.05, send, (signal.SIGINT,)).start())


def send(number: int) -> None:
    """Sends this process a signal, to the main thread where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, number)  # which ends a sleep, too
    else:
        signal.raise_signal(number)
