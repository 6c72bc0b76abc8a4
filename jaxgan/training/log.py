"""What a run writes down: metrics.jsonl, warnings.jsonl, TensorBoard and wandb.

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
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import atomic_write
from jaxgan.training.history import History

LONGEST_LINE = 2**20  # bytes
TENSORBOARD_FLUSH_SECONDS = 10.0  # how old the events may be that a TensorBoard at the side shows


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict]]:
    """Yields each complete line and its record; a last line torn by a kill is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                good = isinstance(record, dict) and {"step", "kimg"} <= record.keys()
                problem = "" if good else "no record with step and kimg"
            except ValueError as error:
                problem = f"not JSON ({error})"
            if problem:
                raise RunFailed(f"{path}, line {number}: {problem}; remove this line")
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
    """Writes `<workdir>/metrics.jsonl`, `<workdir>/tensorboard/` and, if asked, a wandb run.

    Args:
      workdir: a local directory; made if need be.
      resume_step: the finished updates of the restored state; lines of later steps are removed, and hidden
        in TensorBoard. 0 is a run that begins: everything that is there is removed.
      tensorboard: write TensorBoard events.
      wandb: None, or keyword arguments for `wandb.init`, {} for the defaults; a resumed run goes on in the
        same wandb run (its id is kept in `<workdir>/wandb_id`).
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
        tensorboard: bool = True,
        wandb: dict | None = None,
        active: bool = True,
        mark: Mark | None = None,
    ):
        self._file = self._events = self._wandb = None
        self._resume_step, self.history, self._last_step = resume_step, History(), 0
        self.mark, self.is_as_marked = Mark(0, 0), True
        if not active:
            return
        if "://" in str(workdir):
            raise ConfigError(f"workdir={workdir} is not a local directory, which the logs need")
        workdir = Path(workdir)
        if wandb is not None:  # first: without the package nothing is to be touched
            self._wandb = _wandb_run(workdir, resume_step, wandb)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        self._file, self._workdir = path.open("ab", buffering=0), workdir
        self.mark = self._remember(path, resume_step, mark)
        self._file.truncate(self.mark.size)
        self._keep_warnings([warning for warning in read_warnings(workdir) if warning["step"] <= resume_step])
        if tensorboard:
            self._events = _EventFile(workdir / "tensorboard", resume_step)

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
        if self._events:
            from tensorboardX.proto.summary_pb2 import Summary

            pairs = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            self._events.add(step, Summary(value=pairs))
        if self._wandb:
            self._wandb.log(values, step=int(step))

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
        """Logs one image, uint8 [H, W, C], to TensorBoard and wandb (the caller keeps the PNG)."""
        if self._events:
            from tensorboardX import summary

            self._events.add(step, summary.image(name, image, dataformats="HWC"))
        if self._wandb:
            import wandb

            self._wandb.log({name: wandb.Image(image)}, step=int(step))

    def config(self, config: dict) -> None:
        """Logs the settings, to TensorBoard as a text and to wandb as its config."""
        if self._events:
            from tensorboardX import summary

            text = f"```json\n{json.dumps(config, indent=2)}\n```"
            self._events.add(self._resume_step, summary.text("config", text))
        if self._wandb:
            self._wandb.config.update(config, allow_val_change=True)

    def flush(self) -> None:
        """Brings everything logged so far onto the disk."""
        if self._file:
            os.fsync(self._file.fileno())
        if self._events:
            self._events.flush()

    def close(self) -> None:
        """Flushes and closes all, also where one of them fails; a second call does nothing."""
        with contextlib.ExitStack() as stack:
            for part, end in ((self._wandb, "finish"), (self._events, "close"), (self._file, "close")):
                if part:
                    stack.callback(getattr(part, end))
            try:
                self.flush()
            finally:
                self._file = self._events = self._wandb = None


class _EventFile:
    """One TensorBoard event file, written in the calling thread.

    tensorboardX's SummaryWriter hands events to a thread through a queue that its flush does not wait for,
    and names files by the second, so that a quick restart overwrites one; hence its RecordWriter.
    """

    def __init__(self, directory: Path, resume_step: int):
        import tensorboardX
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"  # read in the order of names
        self._event = Event
        self._records = tensorboardX.RecordWriter(str(directory / name))
        self._write(file_version="brain.Event:2")
        # A START hides the events of this step and of later ones in the files before this one.
        begin = resume_step + 1 if resume_step else 0
        self._write(step=begin, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def _write(self, **fields) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())

    def add(self, step: int, summary) -> None:
        """Appends a Summary proto; it is seen from outside after `TENSORBOARD_FLUSH_SECONDS` or a flush."""
        self._write(step=int(step), summary=summary)
        if time.monotonic() - self._flushed > TENSORBOARD_FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._records.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._records.close()


def _wandb_run(workdir: Path, resume_step: int, options: dict):
    """Starts a wandb run, after a resume the workdir's own again; wandb itself skips steps that it already has."""
    try:
        import wandb
    except ImportError:
        raise ConfigError("config.log.wandb=True needs: pip install 'jaxgan[wandb]'") from None
    workdir.mkdir(parents=True, exist_ok=True)
    id_file = workdir / "wandb_id"
    resumed = {"id": id_file.read_text().strip()} if resume_step and id_file.exists() else {}
    defaults = {"project": "jaxgan", "name": workdir.resolve().name, "dir": str(workdir), "resume": "allow"}
    run = wandb.init(**(defaults | resumed | options))
    atomic_write(id_file, f"{run.id}\n".encode())
    return run
