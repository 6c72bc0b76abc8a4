"""Trackers: what each of them is given can be read back, and none of them can end a run."""

import sys
import types

import numpy as np
import pytest

from jaxgan.core.errors import ConfigError
from jaxgan.training import trackers
from jaxgan.training.log import MetricsLog, read_metrics

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def write_run(workdir, steps, *, resume_step=0, **options):
    log = MetricsLog(workdir, resume_step=resume_step, **options)
    log.config({"seed": 7})
    for step in steps:
        log.scalars(step, {"kimg": step * 0.064, "loss/d": 1.0 / 3.0 + step})
        log.images(step, "samples", PICTURE)
    log.close()


def read_events(workdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workdir / "tensorboard"))
    events.Reload()
    return events


def test_tensorboard_reads_back(tmp_path):
    log = MetricsLog(tmp_path, trackers=["tensorboard"])
    log.config({"seed": 7})
    log.scalars(1, {"kimg": 0.5, "loss/d": 1.25})
    log.scalars(2, {"kimg": 1.0, "loss/d": -2.5})
    log.images(2, "samples", PICTURE)
    log.flush()
    events = read_events(tmp_path)  # a flush is enough: the log is still open
    assert [(e.step, e.value) for e in events.Scalars("loss/d")] == [(1, 1.25), (2, -2.5)]
    (shown,) = events.Images("samples")
    assert (shown.step, shown.height, shown.width) == (2, 16, 24)
    (text,) = events.Tensors("config/text_summary")
    assert b'"seed": 7' in text.tensor_proto.string_val[0]
    log.close()
    log.close()


def test_tensorboard_after_a_resume_has_neither_gaps_nor_doubles(tmp_path):
    write_run(tmp_path, range(1, 6), trackers=["tensorboard"])
    write_run(tmp_path, range(4, 8), resume_step=3, trackers=["tensorboard"])  # in the same second: another file
    assert [e.step for e in read_events(tmp_path).Scalars("loss/d")] == [1, 2, 3, 4, 5, 6, 7]
    write_run(tmp_path, range(1, 3), trackers=["tensorboard"])  # a run that begins
    assert [e.step for e in read_events(tmp_path).Scalars("loss/d")] == [1, 2]


def test_missing_packages_are_one_line_and_touch_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"trackers=\('wandb',\): wandb needs pip install 'jaxgan\[wandb\]'"):
        MetricsLog(tmp_path / "run", trackers=("wandb",))
    found = types.SimpleNamespace  # mlflow's client without a database, and no address of a server
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: found() if name == "mlflow" else None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=r"trackers=\('mlflow',\): mlflow needs a server's address in MLFLOW_"):
        MetricsLog(tmp_path / "run", trackers=("mlflow",))
    assert not (tmp_path / "run").exists()


def test_a_resume_goes_on_in_the_same_wandb_run(tmp_path, monkeypatch):
    started, logged = [], []

    class Config:
        def update(self, config, allow_val_change):
            logged.append(config)

    def init(**options):
        started.append(options)
        run = types.SimpleNamespace(id=options.get("id", f"run{len(started)}"), config=Config())
        run.log = lambda values, step: logged.append((step, values))
        run.finish = lambda: logged.append("finish")
        return run

    fake = types.SimpleNamespace(init=init, Image=lambda image: ("image", image.shape), __spec__="here")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    write_run(tmp_path, [1], trackers=["wandb"])
    samples = {"samples": ("image", (16, 24, 3))}
    assert logged == [{"seed": 7}, (1, {"kimg": 0.064, "loss/d": 1.0 / 3.0 + 1}), (1, samples), "finish"]
    write_run(tmp_path, [2], resume_step=1, trackers=["wandb"])
    write_run(tmp_path, [1], trackers=["wandb"])
    assert [(o["project"], o.get("id")) for o in started] == [("jaxgan", None), ("jaxgan", "run1"), ("jaxgan", None)]


def test_mlflow(tmp_path, monkeypatch):
    """The real client, which keeps files here."""
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write_run(tmp_path / "run", [1, 2], trackers=["mlflow"], warn=pytest.fail)
    write_run(tmp_path / "run", [3], resume_step=2, trackers=["mlflow"], warn=pytest.fail)
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    number = (tmp_path / "run/mlflow_id").read_text().strip()
    assert [metric.step for metric in client.get_metric_history(number, "loss/d")] == [1, 2, 3]
    assert client.get_run(number).info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(number)} >= {"config.json", "samples"}


def test_trackio(tmp_path, monkeypatch):
    """The real library, which keeps a database here."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="the extra trackio is not installed")
    write_run(tmp_path / "run", [1, 2], trackers=["trackio"], warn=pytest.fail)
    (run,) = trackio.Api().runs("jaxgan")
    assert run.name == "run"


class Broken:
    """Fails at everything but the beginning."""

    needs, called = "json", []

    def __init__(self, workdir, resume_step):
        pass

    def __getattr__(self, name):
        def fail(*arguments):
            self.called.append(name)
            raise ConnectionError("the server is gone")

        return fail


@pytest.mark.parametrize(("pause", "called"), [(60.0, ["config", "close"]), (0.0, None)])
def test_a_tracker_that_fails_warns_once_and_stops_no_run(tmp_path, monkeypatch, pause, called):
    """It is left alone for a while, but is always closed."""
    monkeypatch.setattr(Broken, "called", [])
    monkeypatch.setattr(trackers, "PAUSE", pause)
    monkeypatch.setattr(trackers, "TIMES", 50.0 if pause else 0.0)
    monkeypatch.setitem(trackers.TRACKERS, "broken", Broken)
    monkeypatch.setitem(trackers.TRACKERS, "never", type("Never", (), {"needs": "json"}))  # takes no arguments
    said = []
    write_run(tmp_path, [1, 2], trackers=["broken", "never", "tensorboard"], warn=said.append)
    assert [line.split()[1] for line in said] == ["never", "broken"]
    assert "the server is gone" in said[1]
    assert Broken.called == (called or ["config", *["scalars", "image"] * 2, "flush", "close"])
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2
    assert [event.step for event in read_events(tmp_path).Scalars("loss/d")] == [1, 2]  # the other one has all
