"""What a run writes down: metrics.jsonl, warnings.jsonl, and what trackers such as TensorBoard are given.

`metrics.jsonl` is the record: one JSON object a line, `{"step": 1200, "kimg": 76.8, "loss/d": 1.234, ...}`, where step
counts finished updates, and perf/seconds what they took, over all starts of the run. It survives a kill (each line is
one write), and a resume cuts it back to the step resumed from, so it has neither gaps nor doubles if the caller,
resumed at step N, writes the line of step N where `has_line(N)` says that it is missing. TensorBoard is held to the
same rule.
"""

import contextlib
import errno
import json
import math
import os
import shlex
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.core.errors import ConfigError, RunFailed, summary
from jaxgan.core.files import announce, atomic_write
from jaxgan.training.history import History
from jaxgan.training.trackers import Trackers, check_trackers

LONGEST_LINE = 2**20  # bytes


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict]]:
    """Yields each complete line and its record; a last line torn by a kill is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                numbers = [record.get(name) for name in ("step", "kimg")] if isinstance(record, dict) else [None]
                good = all(isinstance(number, int | float) for number in numbers)
                problem = "" if good else "no record with step and kimg"
                if good and any(isinstance(value, list | dict) for value in record.values()):
                    problem = "a value that is no number"
            except (ValueError, RecursionError) as error:
                problem = f"not JSON ({error})"
            if problem:
                advice = f"to remove this line: sed -i {number}d {shlex.quote(str(path))}"
                raise RunFailed(f"{path}, line {number}: {problem}; {advice}")
            yield line, {name: math.nan if value is None else value for name, value in record.items()}


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """Returns the records of a metrics.jsonl in the order of writing; null (a non-finite value) is read as NaN."""
    return [record for _, record in _whole_lines(Path(path))]


def read_warnings(workdir: str | os.PathLike) -> list[dict]:
    """Returns the lines of a workdir's warnings.jsonl, {"step": 1200, "kimg": 76.8, "text": "mode collapse: ..."}."""
    path = Path(workdir) / "warnings.jsonl"
    return [record for _, record in _whole_lines(path)] if path.exists() else []


def last_step(path: Path) -> int:
    """Returns the step of the last whole line of a metrics.jsonl; 0 if there is none, or none that can be read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - LONGEST_LINE, 0))
        tail = file.read()
        whole = tail[: tail.rfind(b"\n") + 1].splitlines()
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return int(json.loads(whole[-1])["step"]) if whole else 0
    return 0


class Mark(NamedTuple):
    """Size in bytes and CRC-32 of the lines of a metrics.jsonl."""

    size: int
    crc32: int


class MetricsLog:
    """Writes `<workdir>/metrics.jsonl`, and tells trackers.

    Args:
      workdir: a local directory; made if need be.
      resume_step: the finished updates of the restored state; lines of later steps are removed, and hidden
        in TensorBoard. 0 is a run that begins: everything that is there is removed.
      trackers: names in `TRACKERS`.
      warn: is given a line when a tracker fails.
      active: False writes nothing: the processes other than the primary one.
      mark: what `mark` was when the restored state was saved.

    Attributes:
      history: what is remembered of the lines, those before a resume included; empty if not active.
      mark: tells whether the lines so far are those that were written.
      is_as_marked: False if the lines are others, or fewer, than those of the `mark` that was given.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        resume_step: int = 0,
        trackers: Iterable[str] = (),
        warn: Callable[[str], None] = announce,
        active: bool = True,
        mark: Mark | None = None,
    ):
        self._file = self._trackers = None
        self.history, self._last_step = History(), 0
        self.mark, self.is_as_marked = Mark(0, 0), True
        if not active:
            return
        if "://" in str(workdir):
            raise ConfigError(f"workdir={workdir} is not a local directory, which the logs need")
        workdir = Path(workdir)
        check_trackers(trackers)  # first: without the package nothing is to be touched
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        self._file, self._workdir = path.open("ab", buffering=0), workdir
        self.mark = self._remember(path, resume_step, mark)
        self._file.truncate(self.mark.size)
        self._keep_warnings([warning for warning in self._old_warnings(warn) if warning["step"] <= resume_step])
        self._trackers = Trackers(trackers, workdir, resume_step, warn)

    def _old_warnings(self, warn: Callable[[str], None]) -> list[dict]:
        """Returns the warnings so far; what cannot be read is moved aside."""
        try:
            return read_warnings(self._workdir)
        except (RunFailed, OSError) as error:
            path = self._workdir / "warnings.jsonl"
            aside = path.with_name(f"{path.name}.{time.time_ns()}.damaged")
            path.rename(aside)
            warn(f"warning: {summary(error)}; it is now {aside.name}")
            return []

    def _remember(self, path: Path, resume_step: int, mark: Mark | None) -> Mark:
        """Adds the lines up to a step to the history; returns their mark."""
        here = Mark(0, 0)
        self.is_as_marked = mark in (None, here)
        for line, record in _whole_lines(path):
            if record["step"] > resume_step:
                break
            here = self._add(record, line, here)
            self.is_as_marked |= here == mark
        return here

    def _add(self, record: dict, line: bytes, before: Mark) -> Mark:
        self.history.add(record)
        self._last_step = record["step"]
        return Mark(before.size + len(line), zlib.crc32(line, before.crc32))

    def has_line(self, step: int) -> bool:
        """Returns whether the last line is of this step."""
        return self._last_step == step

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs one line; `values` holds "kimg" and flat names such as "loss/d".

        Numbers keep their full precision. A value that is not finite is written as null (JSON has no NaN). A line that
        the disk does not take whole leaves nothing behind.
        """
        if self._file is None:
            return
        values = {name: float(value) for name, value in values.items()}
        record = {"step": int(step), "kimg": values["kimg"]} | values
        line = {k: v if math.isfinite(v) else None for k, v in record.items()}
        line = json.dumps(line, allow_nan=False).encode() + b"\n"
        self._append(line)
        self.mark = self._add(record, line, self.mark)
        self._trackers.scalars(int(step), values)

    def warning(self, step: int, kimg: float, text: str) -> None:
        """Keeps a warning for whoever looks at the run later."""
        if self._file is not None:
            self._keep_warnings([*read_warnings(self._workdir), {"step": int(step), "kimg": kimg, "text": text}])

    def _keep_warnings(self, warnings: list[dict]) -> None:
        """Writes warnings.jsonl anew; there are few."""
        path = self._workdir / "warnings.jsonl"
        if warnings or path.exists():
            atomic_write(path, "".join(json.dumps(warning) + "\n" for warning in warnings).encode())

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) < len(line):  # one system call
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        except OSError:
            self._file.truncate(size)
            raise

    def images(self, step: int, name: str, image: np.ndarray) -> None:
        """Gives one image, uint8 [H, W, C], to the trackers (the caller keeps the PNG)."""
        if self._trackers:
            self._trackers.image(int(step), name, image)

    def config(self, config: dict) -> None:
        """Gives the settings to the trackers."""
        if self._trackers:
            self._trackers.config(config)

    def flush(self) -> None:
        """Brings everything logged so far onto the disk."""
        if self._file:
            self._trackers.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes all, also where the disk is full; a second call does nothing."""
        if self._file:
            try:
                self.flush()
            finally:
                self._trackers.close()
                self._file.close()
                self._file = self._trackers = None
