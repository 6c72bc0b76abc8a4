"""What a run remembers of its log: enough for curves and health, and the best scores, whatever its length."""

import collections
import math
from collections.abc import Iterable

LIMIT = 4096  # lines in memory, 10 MB; a curve is drawn through 1,200 points at most
MEASURED = ("eval/", "health/")  # prefixes of what few lines have


class History:
    """The lines of a log: the recent ones all, of older ones every k-th.

    What is kept is a function of the lines in their order, so a resumed run remembers the same. Evaluation and health
    are thinned out on their own, as few lines have them.

    Args:
      records: lines to begin with, {"step": int, "kimg": float, name: float, ...}.
      limit: the most lines in memory; half of them are the recent ones.

    Attributes:
      best: {"eval/...": ((lowest score, its kimg), (highest score, its kimg))}; of equals the first.

    Example:
      >>> history = History(({"step": i, "kimg": i / 10} for i in range(100)), limit=8)
      >>> [line["step"] for line in history.lines()], [line["step"] for line in history.lines(even=True)]
      ([0, 32, 64, 96, 97, 98, 99], [0, 32, 64, 96])
    """

    def __init__(self, records: Iterable[dict] = (), limit: int = LIMIT):
        self._usual, self._measured = _Thinned(limit // 2), _Thinned(limit // 2)
        self.best: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {}
        for record in records:
            self.add(record)

    def add(self, record: dict) -> None:
        """Adds a line."""
        measured = {name: value for name, value in record.items() if name.startswith(MEASURED)}
        self._usual.add({name: value for name, value in record.items() if name not in measured})
        if measured:
            self._measured.add({"step": record["step"], "kimg": record["kimg"]} | measured)
        for name, value in measured.items():
            if math.isfinite(value):
                here = (value, record["kimg"])
                low, high = self.best.get(name, (here, here))
                self.best[name] = (here if value < low[0] else low, here if value > high[0] else high)

    def lines(self, even: bool = False) -> list[dict]:
        """Returns what is left, each value once: the usual ones in order, then what was measured in order.

        Args:
          even: leave out as many of the recent lines as of the older ones.
        """
        return [*self._usual.lines(even), *self._measured.lines(even)]

    def last_scores(self) -> dict[str, float]:
        """Returns the last value of every score."""
        return {k: v for line in self._measured.lines() for k, v in line.items() if k.startswith("eval/")}


class _Thinned:
    """Lines of which the last `half` are kept, and of the older ones every k-th, at most `half`."""

    def __init__(self, half: int):
        self._recent, self._older = collections.deque(maxlen=half), []
        self._every, self._count = 1, 0

    def add(self, line: dict) -> None:
        leaves = self._count - len(self._recent)  # number of the line that makes room
        if len(self._recent) == self._recent.maxlen and leaves % self._every == 0:
            self._older.append(self._recent[0])
            if len(self._older) > self._recent.maxlen:
                self._older, self._every = self._older[::2], 2 * self._every
        self._recent.append(line)
        self._count += 1

    def lines(self, even: bool = False) -> list[dict]:
        first, every = self._count - len(self._recent), self._every if even else 1
        return [*self._older, *(line for i, line in enumerate(self._recent, first) if i % every == 0)]
