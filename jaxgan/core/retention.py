"""Which checkpoints stay: the last, every k-th, and the best by a score that may come after the save.

A state is saved before it is scored, so that no score can cost it. Its scores then stand in `scores.json` beside the
checkpoints, {step: {name: score}}.
"""

import contextlib
import json
import math
from collections.abc import Callable

from absl import logging
from etils import epath

from jaxgan.core.files import atomic_write
from jaxgan.core.integrity import Damaged, seal, unseal


def read_scores(directory: epath.Path) -> dict[int, dict[str, float]]:
    """Returns the scores of the checkpoints in `directory` by step; {} with a warning if the file is damaged."""
    file = directory / "scores.json"
    try:
        scores = unseal(json.loads(file.read_text()))["scores"] if file.exists() else {}
    except (ValueError, KeyError, TypeError, Damaged):
        logging.warning("%s is damaged: no score of the checkpoints beside it is known", file)
        return {}
    return {int(step): values for step, values in scores.items()}


def write_scores(directory: epath.Path, scores: dict[int, dict[str, float]]) -> None:
    """Writes what `read_scores` reads."""
    document = json.dumps(seal({"scores": {str(step): scores[step] for step in sorted(scores)}})).encode()
    file = directory / "scores.json"
    if "://" in str(file):
        file.write_bytes(document)
    else:
        atomic_write(file, document)


class Retention:
    """Decides which checkpoints stay after a save; orbax calls this a preservation policy.

    Orbax's own policy for the best keeps metrics in files of its own, one damaged byte of which stops the manager from
    opening.

    Args:
      last: how many of the latest stay.
      every: steps divisible by it stay for good; 0: none.
      metric: the score by which the best stays, the later of equals; "": none.
      higher_is_better: its direction.
    """

    def __init__(self, last: int, every: int, metric: str, higher_is_better: bool):
        self.last, self.every, self.metric = last, every, metric
        self.higher_is_better = higher_is_better
        self._scores: dict[int, float] = {}  # of each rated step, the higher the better

    def rate(self, step: int, metrics: dict[str, float]) -> None:
        """Remembers the score of a step if it is among its `metrics` and finite."""
        score = metrics.get(self.metric, math.nan) * (1.0 if self.higher_is_better else -1.0)
        if math.isfinite(score):
            self._scores[step] = score

    def rate_saved(self, directory: epath.Path, steps: list[int], read_metrics: Callable) -> None:
        """Rates checkpoints by what was saved with them, `read_metrics(path)`, and by their scores."""
        scores = read_scores(directory)
        for step in steps:
            with contextlib.suppress(Exception):  # damaged, in whatever way: no candidate for the best
                self.rate(step, read_metrics(directory / str(step)) | scores.get(step, {}))

    def best(self, steps: list[int]) -> int | None:
        """Returns the best of the steps, None if none has the score."""
        rated = [step for step in steps if step in self._scores]
        return max(rated, key=lambda step: (self._scores[step], step), default=None)

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Returns which of orbax's checkpoints, given in ascending order, stay."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        keep = {*steps[-self.last :], *(step for step in steps if self.every and step % self.every == 0)}
        return [step in keep or step == self.best(steps) for step in steps]
