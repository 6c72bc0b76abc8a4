"""Signals in training: the first one asks the run to save and stop, a second one ends the process at once."""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import jax

from jaxgan.core.signals import if_lost, send

ONE_SIGNAL_SECONDS = 0.5  # some senders, such as `timeout`, send a signal twice at once


class StopRequested(BaseException):
    """Leaves work that may be left undone, because a signal came."""


class Interrupt:
    """Turns SIGTERM, Ctrl-C and the SIGHUP of a terminal that is closed into a flag that the loop reads.

    Python runs a handler only between the main thread's own instructions, so a thread that reads the signals as they
    come answers at once while a program is compiled. It also sends them again to the main thread until that has seen
    them: a signal that the system gives to another thread does not end the main thread's sleep. With several processes
    SIGTERM is left to JAX's preemption service, which makes all of them stop at one step. Outside the main thread
    signals are left alone.

    Args:
      note: prints a line.

    Attributes:
      status: exit status of the first signal that came, 143, 130 or 129; 0: none.
    """

    def __init__(self, note: Callable[[str], None]):
        self.status = 0
        self._note, self._leaves = note, False
        self._held_by = ""  # what nothing can interrupt
        self._missed = False  # a signal came where an exception is lost
        self._alone = jax.process_count() == 1
        self._previous, self._if_lost = {}, contextlib.ExitStack()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            caught = [signal.SIGINT, signal.SIGTERM] if self._alone else [signal.SIGINT]
            if getattr(signal, "SIGHUP", None) and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # no nohup
                caught.append(signal.SIGHUP)
            self._previous = {number: signal.signal(number, self._handle) for number in caught}
            self._if_lost.enter_context(if_lost(StopRequested, self._come_again))
            self._thread = threading.Thread(target=self._answer, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_):
        if self._previous:
            signal.set_wakeup_fd(self._wakeup)
            self._writer.close()
            self._thread.join()  # so that it sends nothing to the handlers of others
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._if_lost.close()

    @contextlib.contextmanager
    def leaving(self) -> Iterator[None]:
        """Lets a signal raise StopRequested in here, now if it came before; several processes go on together."""
        if self._alone and self.status:
            raise StopRequested
        self._leaves = self._alone
        try:
            yield
        finally:
            self._leaves = False

    @contextlib.contextmanager
    def held_by(self, what: str) -> Iterator[None]:
        """Says, to whoever sends a signal in here, that it is answered when `what` is over."""
        self._held_by = what
        try:
            yield
        finally:
            self._held_by = ""

    def _handle(self, number, frame):
        self.status = self.status or 128 + number
        if not self._alone:  # tell the others the way that a scheduler would
            os.kill(os.getpid(), signal.SIGTERM)
        if self._leaves:
            self._leaves = False
            raise StopRequested

    def _come_again(self):
        self._leaves = self._missed = True

    def _answer(self):
        first, came, resent = 0, 0.0, False
        while True:
            readable, _, _ = select.select([self._reader], [], [], 0.1 if first else None)
            if not readable:
                if self._missed or not self.status:
                    self._missed, resent = False, True
                    send(first)
                continue
            numbers = self._reader.recv(64)
            if not numbers:  # closed
                break
            for number in numbers:
                if number not in self._previous:
                    continue
                if not first:
                    first, came = number, time.monotonic()
                    name, then = signal.Signals(number).name, "as soon as it can be"
                    if self._held_by:
                        then = f"after {self._held_by}, which nothing can interrupt"
                    self._note(f"{name}: the state is saved {then}; a second one ends the run at once")
                elif resent:
                    resent = False
                elif time.monotonic() - came > ONE_SIGNAL_SECONDS:
                    os._exit(128 + number)
        self._reader.close()
