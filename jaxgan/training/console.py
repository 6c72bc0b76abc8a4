"""What a person at the terminal sees of a run, and how fast the run is."""

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import NamedTuple, TextIO

from jaxgan.core.compilation_cache import found_and_missed
from jaxgan.core.words import format_duration


def progress_fields(
    step: int,
    total_steps: int,
    kimg: float,
    images_per_second: float,
    seconds_left: float,
    loss_d: float,
    loss_g: float,
    data_wait: float,
) -> list[str]:
    """Returns the fields of a progress line, the important ones first; a NaN speed, not known yet, is left out.

    Joined by " | " they read
    "step 1200/100000 | 76.8 kimg | 812 img/s | 1 h 57 min left | D 1.234 G -0.321 | data 0.3%".

    Args:
      data_wait: fraction in [0, 1] of the time that was spent waiting for data.
    """
    fields = [f"step {step}/{total_steps}", f"{kimg:.1f} kimg"]
    if math.isfinite(images_per_second):
        fields.append(f"{images_per_second:{'.0f' if images_per_second >= 100 else '.3g'}} img/s")
    if math.isfinite(seconds_left):
        fields.append(f"{format_duration(seconds_left)} left")
    fields.append(f"D {loss_d:.3f} G {loss_g:.3f}")
    if math.isfinite(data_wait):
        fields.append(f"data {data_wait:.1%}")
    return fields


class Progress:
    """Shows a header, one progress line, and notes between.

    On a terminal the progress line is rewritten in place and kept within the terminal's width; elsewhere
    (a log file, CI, a Colab cell) each is a line of its own. With active=False nothing is shown.
    """

    def __init__(self, stream: TextIO | None = None, *, active: bool = True):
        self._stream = (stream or sys.stdout) if active else None
        self._in_place = active and self._stream.isatty()
        self._shown = ""  # the progress line that the cursor stands behind

    def header(self, title: str, facts: dict[str, object]) -> None:
        """Prints a title and a table of facts; whole numbers are given thousands separators."""
        width = max(map(len, facts))
        rows = (f"  {k:{width}}  {f'{v:,}' if isinstance(v, int) else v}" for k, v in facts.items())
        self.note("\n".join([title, *rows]))

    def line(self, *args, **kwargs) -> None:
        """Shows how far the run is; the arguments are those of `progress_fields`."""
        fields = progress_fields(*args, **kwargs)
        if self._in_place:
            columns = shutil.get_terminal_size().columns - 1  # a full last column would wrap
            while len(fields) > 1 and len(" | ".join(fields)) > columns:
                fields.pop()
            self._show(" | ".join(fields)[:columns])
        else:
            self._write(" | ".join(fields) + "\n")

    def note(self, text: str) -> None:
        """Prints a message of one or more lines above the progress line."""
        shown = self._shown
        self._show("")
        self._write(text + "\n")
        self._show(shown)

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Shows what the run is busy with in here, on a terminal for how long, and in the end how long it took."""
        begin, (found, missed), ended = time.perf_counter(), found_and_missed(), Event()

        def count():
            while not ended.wait(1.0):
                self._show(f"{what} ... {format_duration(time.perf_counter() - begin)}")

        self._show(f"{what} ...") if self._in_place else self.note(f"{what} ...")
        counter = Thread(target=count, daemon=True)
        if self._in_place:
            counter.start()
        try:
            yield
        finally:
            ended.set()
            if self._in_place:
                counter.join()
            self._show("")
        now = found_and_missed()
        cached = ", from the cache" if now[0] > found and now[1] == missed else ""
        self.note(f"{what}: {format_duration(time.perf_counter() - begin)}{cached}")

    def close(self) -> None:
        """Leaves the last progress line standing, the cursor below it."""
        if self._shown:
            self._write("\n")
        self._shown = ""

    def _show(self, line: str) -> None:
        if line or self._shown:
            self._write("\r" + line.ljust(len(self._shown)) + ("" if line else "\r"))
        self._shown = line

    def _write(self, text: str) -> None:
        if self._stream:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:  # whoever read it is gone, or its disk is full: the run needs no console
                self._stream = None


class Speed(NamedTuple):
    """The result of `Throughput.tick`; all NaN where there is nothing to measure yet."""

    images_per_second: float  # in the last interval, pauses excluded
    seconds_left: float  # at the overall rate, pauses included since they will come again
    data_wait: float  # fraction of the last interval, pauses excluded, that was spent in `waiting()`


class Throughput:
    """Measures training speed between ticks; `clock` gives seconds.

    Call `start` when the first update, which is compiled, has finished; before it nothing is known.

    Args:
      total_images: real images that the run will have seen in the end.
      seconds: what the run took before this start.
    """

    def __init__(self, total_images: float, seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter):
        self._total, self._clock, self._began = total_images, clock, clock() - seconds
        self._start = self._last = None  # (time, images)
        self._paused = self._waited = 0.0  # seconds since the last tick
        self._pause_began = None  # while in a pause

    @property
    def started(self) -> bool:
        return self._start is not None

    @property
    def seconds(self) -> float:
        """How long the run took up to now, over all its starts, compilation and pauses included."""
        return self._clock() - self._began

    def start(self, images: float) -> None:
        """Starts the clock after so many real images."""
        self._start = self._last = (self._clock(), images)
        self._paused = self._waited = 0.0

    def tick(self, images: float) -> Speed:
        """Ends an interval, within a pause at the moment when the pause began.

        Args:
          images: real images that the run has seen altogether.
        """
        now = self._clock() if self._pause_began is None else self._pause_began
        if self._start is None or images <= self._last[1]:
            return Speed(math.nan, math.nan, math.nan)
        busy = now - self._last[0] - self._paused
        per_image = (now - self._start[0]) / (images - self._start[1])
        speed = Speed((images - self._last[1]) / busy, (self._total - images) * per_image, self._waited / busy)
        self._last, self._paused, self._waited = (now, images), 0.0, 0.0
        return speed

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps the time in here (evaluation, sampling) from counting as training."""
        self._pause_began = self._clock()
        yield
        self._paused += self._clock() - self._pause_began
        self._pause_began = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time in here as spent waiting for data."""
        begin = self._clock()
        yield
        self._waited += self._clock() - begin
