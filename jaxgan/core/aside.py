"""Work beside the main thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Aside:
    """Calls one function at a time on a thread, so that its caller goes on at once.

    Example:
      >>> aside, done = Aside(), []
      >>> aside(lambda: done.append("drawn"))
      >>> aside.wait()
      >>> done
      ['drawn']
    """

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)
        self._last: Future | None = None

    def __call__(self, function: Callable[[], object]) -> None:
        """Starts function() once the one before it has ended; raises what that one raised."""
        try:
            self.wait()
        finally:
            self._last = self._thread.submit(function)

    def wait(self) -> None:
        """Waits for the last function; raises what it raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
