"""Where a run is shown beside its own files: TensorBoard, Weights & Biases, Trackio, MLflow; a class each.

A tracker is opened with the workdir and the step that the run resumes at, and is given scalars, images and the settings
as they come. None of them is needed: what goes wrong in one is a warning, the first time that it does.
"""

import functools
import importlib.util
import json
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from jaxgan.core.errors import ConfigError, lookup, summary
from jaxgan.core.files import atomic_write

PAUSE, TIMES = 60.0, 50.0  # after a failure: seconds, or times what the failed call took if that is longer
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}  # 246 s by default
TENSORBOARD_FLUSH_SECONDS = 10.0  # how old the events may be that a TensorBoard at the side shows


class TensorBoard:
    """One event file in `<workdir>/tensorboard/`, written in the calling thread.

    tensorboardX's SummaryWriter hands events to a thread through a queue that its flush does not wait for,
    and names files by the second, so that a quick restart overwrites one; hence its RecordWriter.
    """

    needs = "tensorboardX"

    def __init__(self, workdir: Path, resume_step: int):
        import tensorboardX
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory = workdir / "tensorboard"
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"  # read in the order of names
        self._event, self._resume_step = Event, resume_step
        self._records = tensorboardX.RecordWriter(str(directory / name))
        self._write(file_version="brain.Event:2")
        # A START hides the events of this step and of later ones in the files before this one.
        begin = resume_step + 1 if resume_step else 0
        self._write(step=begin, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Appends one value for each name."""
        from tensorboardX.proto.summary_pb2 import Summary

        self._add(step, Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Appends an image, uint8 [H, W, C]."""
        from tensorboardX import summary

        self._add(step, summary.image(name, image, dataformats="HWC"))

    def config(self, config: dict) -> None:
        """Appends the settings as a text."""
        from tensorboardX import summary

        text = f"```json\n{json.dumps(config, indent=2)}\n```"
        self._add(self._resume_step, summary.text("config", text))

    def flush(self) -> None:
        """Brings what was appended to the file."""
        self._records.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Ends the file."""
        self._records.close()

    def _write(self, **fields) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())

    def _add(self, step: int, summary) -> None:
        """Appends a Summary proto; it is seen from outside after `TENSORBOARD_FLUSH_SECONDS` or a flush."""
        self._write(step=int(step), summary=summary)
        if time.monotonic() - self._flushed > TENSORBOARD_FLUSH_SECONDS:
            self.flush()


class Wandb:
    """A run of Weights & Biases; a resumed run goes on in the same one, whose id is in `<workdir>/wandb_id`.

    wandb itself skips steps that it already has.
    """

    needs = "wandb"

    def __init__(self, workdir: Path, resume_step: int):
        import wandb

        workdir.mkdir(parents=True, exist_ok=True)
        id_file = workdir / "wandb_id"
        resumed = {"id": id_file.read_text().strip()} if resume_step and id_file.exists() else {}
        options = {"project": "jaxgan", "name": workdir.resolve().name, "dir": str(workdir), "resume": "allow"}
        self._run, self._image = wandb.init(**(options | resumed)), wandb.Image
        atomic_write(id_file, f"{self._run.id}\n".encode())

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs one value for each name."""
        self._run.log(values, step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Logs an image, uint8 [H, W, C]."""
        self._run.log({name: self._image(image)}, step=step)

    def config(self, config: dict) -> None:
        """Sets the run's settings."""
        self._run.config.update(config, allow_val_change=True)

    def flush(self) -> None:
        """Does nothing: the library has a process or a thread of its own."""

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class Trackio(Wandb):
    """A run of Trackio, which has wandb's functions, on this machine, in the project jaxgan; see `trackio show`."""

    needs = "trackio"

    def __init__(self, workdir: Path, resume_step: int):
        import trackio

        name = workdir.resolve().name
        options = dict(embed=False, resume="allow" if resume_step else "never")
        self._run, self._image = trackio.init(project="jaxgan", name=name, **options), trackio.Image

    def config(self, config: dict) -> None:
        """Sets the run's settings."""
        self._run.config.update(config)


class Mlflow:
    """A run of MLflow in the experiment jaxgan, where MLFLOW_TRACKING_URI says; see `Wandb` of its id."""

    needs = "mlflow"

    def __init__(self, workdir: Path, resume_step: int):
        for name, value in MLFLOW_PATIENCE.items():
            os.environ.setdefault(name, value)
        import mlflow

        workdir.mkdir(parents=True, exist_ok=True)
        id_file = workdir / "mlflow_id"
        self._client = mlflow.MlflowClient()
        if resume_step and id_file.exists():
            self._id = id_file.read_text().strip()
            self._client.update_run(self._id, status="RUNNING")
        else:
            experiment = mlflow.set_experiment("jaxgan").experiment_id
            self._id = self._client.create_run(experiment, run_name=workdir.resolve().name).info.run_id
            atomic_write(id_file, f"{self._id}\n".encode())

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs one value for each name."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in values.items()])

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Logs an image, uint8 [H, W, C], as an artifact."""
        self._client.log_image(self._id, image, f"{name}/{step:09d}.png")

    def config(self, config: dict) -> None:
        """Keeps the settings as config.json: parameters of MLflow may never change."""
        self._client.log_dict(self._id, config, "config.json")

    def flush(self) -> None:
        """Does nothing: each call is written at once."""

    def close(self) -> None:
        """Ends the run."""
        self._client.set_terminated(self._id)


TRACKERS = {"tensorboard": TensorBoard, "wandb": Wandb, "trackio": Trackio, "mlflow": Mlflow}


def check_trackers(names: Iterable[str], setting: str = "config.log.trackers") -> None:
    """Raises a ConfigError for a name that is no tracker, or one whose package is not installed."""
    for name in names:
        package = lookup(TRACKERS, name, setting).needs
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{setting}={tuple(names)!r}: {name} needs pip install 'jaxgan[{package}]'")
        if name == "mlflow" and not (os.environ.get("MLFLOW_TRACKING_URI") or importlib.util.find_spec("sqlalchemy")):
            right = "mlflow needs a server's address in MLFLOW_TRACKING_URI, or pip install mlflow to write ./mlflow.db"
            raise ConfigError(f"{setting}={tuple(names)!r}: {right}")


class Trackers:
    """Several trackers as one, with the same methods, of which a call never fails.

    One that failed is left alone for a while, so that a server that is gone costs next to no time.

    Args:
      names: in `TRACKERS`.
      workdir, resume_step: as of `MetricsLog`.
      warn: is given a line when one of them fails, once for each.
    """

    def __init__(self, names: Iterable[str], workdir: Path, resume_step: int, warn: Callable[[str], None]):
        self._warn, self._open = warn, {}
        self._again: dict[str, float] = {}  # when to try one that has failed, by the clock of time.monotonic
        for name in names:
            tracker = self._attempt(name, functools.partial(TRACKERS[name], workdir, resume_step))
            if tracker is not None:
                self._open[name] = tracker

    def _attempt(self, name: str, call: Callable):
        begin = time.monotonic()
        try:
            return call()
        except Exception as error:  # somebody else's library, its server or its network
            told, now = name in self._again, time.monotonic()
            self._again[name] = now + max(PAUSE, TIMES * (now - begin))
            if not told:
                self._warn(f"warning: {name} does not get all of this run, which goes on: {summary(error)}")
            return None

    def _all(self, method: str, *arguments) -> None:
        for name, tracker in self._open.items():
            if method != "close" and time.monotonic() < self._again.get(name, 0.0):
                continue
            self._attempt(name, functools.partial(getattr(tracker, method), *arguments))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs the values of a step."""
        self._all("scalars", step, values)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Logs an image, uint8 [H, W, C]."""
        self._all("image", step, name, image)

    def config(self, config: dict) -> None:
        """Logs the settings."""
        self._all("config", config)

    def flush(self) -> None:
        """Brings what was logged to where it is read."""
        self._all("flush")

    def close(self) -> None:
        """Ends all of them; a second call does nothing."""
        self._all("close")
        self._open = {}
