"""What a run writes down and shows: metrics.jsonl, TensorBoard, wandb, the console, and its own speed.

`metrics.jsonl` is the record: one JSON object a line, `{"step": 1200, "kimg": 76.8, "loss/d": 1.234, ...}`,
where step counts finished updates. It survives a kill (each line is one write) and a resume cuts it back to
the step resumed from, so it has neither gaps nor doubles if the caller writes all lines of step N and calls
`flush` before it begins to save checkpoint N. TensorBoard is held to the same rule.
"""

import contextlib
import json
import math
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import atomic_write

TENSORBOARD_FLUSH_SECONDS = 10.0  # how old the events may be that a TensorBoard at the side shows


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict]]:
    """Each complete line of a metrics file and its record; a last line torn by a kill is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield line, json.loads(line)
            except ValueError as error:
                raise RunFailed(f"{path}, line {number}: not JSON ({error}); remove this line") from None


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """The records of a metrics.jsonl in the order of writing; null (a non-finite value) is read as NaN."""
    return [
        {name: math.nan if value is None else value for name, value in record.items()}
        for _, record in _whole_lines(Path(path))
    ]


class MetricsLog:
    """Writes `<workdir>/metrics.jsonl`, `<workdir>/tensorboard/` and, if asked, a wandb run.

    Args:
      workdir: a local directory; made if need be.
      resume_step: the finished updates of the restored state; lines of later steps are removed, and hidden
        in TensorBoard. 0 is a run that begins: everything that is there is removed.
      tensorboard: write TensorBoard events.
      wandb: None, or keyword arguments for `wandb.init`, {} for the defaults; a resumed run goes on in the
        same wandb run (its id is kept in `<workdir>/wandb_id`).
      active: False writes nothing: the processes other than 0.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        resume_step: int = 0,
        tensorboard: bool = True,
        wandb: dict | None = None,
        active: bool = True,
    ):
        self._file = self._events = self._wandb = None
        self._resume_step = resume_step
        if not active:
            return
        if "://" in str(workdir):
            raise ConfigError(f"workdir={workdir} is not a local directory, which the logs need")
        workdir = Path(workdir)
        if wandb is not None:  # first: without the package nothing is to be touched
            self._wandb = _wandb_run(workdir, resume_step, wandb)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        if path.exists():
            kept = [line for line, record in _whole_lines(path) if 0 < record["step"] <= resume_step]
            atomic_write(path, b"".join(kept))
        self._file = path.open("ab", buffering=0)
        if tensorboard:
            self._events = _EventFile(workdir / "tensorboard", resume_step)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log one line; `values` holds "kimg" and flat names such as "loss/d".

        Numbers keep their full precision. A NaN under "penalty/" is left out: a lazy penalty that was not
        applied in this step. Any other non-finite value is written as null, so that the line which a run
        stopped at shows the culprit (JSON has no NaN).
        """
        if self._file is None:
            return
        values = {name: float(value) for name, value in values.items()}
        values = {k: v for k, v in values.items() if not (k.startswith("penalty/") and math.isnan(v))}
        record = {"step": int(step), "kimg": values["kimg"]} | values
        line = {k: v if math.isfinite(v) else None for k, v in record.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")  # one system call
        if self._events:
            from tensorboardX.proto.summary_pb2 import Summary

            pairs = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            self._events.add(step, Summary(value=pairs))
        if self._wandb:
            self._wandb.log(values, step=int(step))

    def images(self, step: int, name: str, image: np.ndarray) -> None:
        """Log one image, uint8 [H, W, C], to TensorBoard and wandb (the caller keeps the PNG)."""
        if self._events:
            from tensorboardX import summary

            self._events.add(step, summary.image(name, image, dataformats="HWC"))
        if self._wandb:
            import wandb

            self._wandb.log({name: wandb.Image(image)}, step=int(step))

    def config(self, config: dict) -> None:
        """Log the resolved settings, to TensorBoard as a text and to wandb as its config."""
        if self._events:
            from tensorboardX import summary

            text = f"```json\n{json.dumps(config, indent=2)}\n```"
            self._events.add(self._resume_step, summary.text("config", text))
        if self._wandb:
            self._wandb.config.update(config, allow_val_change=True)

    def flush(self) -> None:
        """Everything logged so far is on the disk when this returns; call it before a checkpoint."""
        if self._file:
            os.fsync(self._file.fileno())
        if self._events:
            self._events.flush()

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        self.flush()
        if self._file:
            self._file.close()
        if self._events:
            self._events.close()
        if self._wandb:
            self._wandb.finish()
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
        """Append a Summary proto; it is seen from outside after `TENSORBOARD_FLUSH_SECONDS` or a flush."""
        self._write(step=int(step), summary=summary)
        if time.monotonic() - self._flushed > TENSORBOARD_FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._records.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._records.close()


def _wandb_run(workdir: Path, resume_step: int, options: dict):
    """A wandb run, the workdir's own again after a resume. wandb itself skips steps that it already has."""
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


def format_duration(seconds: float) -> str:
    """A duration in its two leading units: "45 s", "3 min 20 s", "1 h 57 min", "2 d 3 h"."""
    if (whole := round(seconds)) < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if (minutes := round(seconds / 60)) < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def progress_line(
    step: int,
    total_steps: int,
    kimg: float,
    images_per_second: float,
    seconds_left: float,
    loss_d: float,
    loss_g: float,
    data_wait: float,
) -> list[str]:
    """The fields of a progress line, the important ones first; a NaN speed, not known yet, is left out.

    `data_wait` is a share in [0, 1] of the time. Joined by " | " they read
    "step 1200/100000 | 76.8 kimg | 812 img/s | 1 h 57 min left | D 1.234 G -0.321 | data 0.3%".
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
    """The console: a header, one progress line, and notes between.

    On a terminal the progress line is rewritten in place and kept within the terminal's width; elsewhere
    (a log file, CI, a Colab cell) each is a line of its own. active=False says nothing.
    """

    def __init__(self, stream: TextIO | None = None, *, active: bool = True):
        self._stream = (stream or sys.stdout) if active else None
        self._in_place = active and self._stream.isatty()
        self._shown = ""  # the progress line that the cursor stands behind

    def header(self, title: str, facts: dict[str, object]) -> None:
        """A title and a table of facts; whole numbers are given thousands separators."""
        width = max(map(len, facts))
        rows = (f"  {k:{width}}  {f'{v:,}' if isinstance(v, int) else v}" for k, v in facts.items())
        self.note("\n".join([title, *rows]))

    def line(self, *args, **kwargs) -> None:
        """Show how far the run is; the arguments are those of `progress_line`."""
        fields = progress_line(*args, **kwargs)
        if self._in_place:
            columns = shutil.get_terminal_size().columns - 1  # a full last column would wrap
            while len(fields) > 1 and len(" | ".join(fields)) > columns:
                fields.pop()
            self._show(" | ".join(fields)[:columns])
        else:
            self._write(" | ".join(fields) + "\n")

    def note(self, text: str) -> None:
        """Print a message of one or more lines above the progress line."""
        shown = self._shown
        self._show("")
        self._write(text + "\n")
        self._show(shown)

    def close(self) -> None:
        """Leave the last progress line standing, the cursor below it."""
        if self._shown:
            self._write("\n")
        self._shown = ""

    def _show(self, line: str) -> None:
        if line or self._shown:
            self._write("\r" + line.ljust(len(self._shown)) + ("" if line else "\r"))
        self._shown = line

    def _write(self, text: str) -> None:
        if self._stream:
            self._stream.write(text)
            self._stream.flush()


class Speed(NamedTuple):
    """What `Throughput.tick` measured; all NaN where there is nothing to measure yet."""

    images_per_second: float  # in the last interval, pauses excluded
    seconds_left: float  # at the overall rate, pauses included since they will come again
    data_wait: float  # share of the last interval, pauses excluded, spent in `waiting()`


class Throughput:
    """Measures training speed between ticks; `clock` gives seconds.

    The first tick only starts the clock: call it when the first update, which is compiled, has finished.
    """

    def __init__(self, total_images: int, clock: Callable[[], float] = time.perf_counter):
        self._total, self._clock = total_images, clock
        self._start = self._last = None  # (time, images)
        self._paused = self._waited = 0.0  # seconds since the last tick

    @property
    def started(self) -> bool:
        """Whether the first tick was made."""
        return self._start is not None

    def tick(self, images: int) -> Speed:
        """End an interval; `images` are the real images that the run has seen altogether."""
        now = self._clock()
        speed = Speed(math.nan, math.nan, math.nan)
        if self._start is None:
            self._start = (now, images)
        elif images > self._last[1]:
            busy = now - self._last[0] - self._paused
            per_image = (now - self._start[0]) / (images - self._start[1])
            left = (self._total - images) * per_image
            speed = Speed((images - self._last[1]) / busy, left, self._waited / busy)
        self._last, self._paused, self._waited = (now, images), 0.0, 0.0
        return speed

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here (evaluation, sampling) does not count as training."""
        begin = self._clock()
        yield
        self._paused += self._clock() - begin

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in here is spent waiting for data."""
        begin = self._clock()
        yield
        self._waited += self._clock() - begin
