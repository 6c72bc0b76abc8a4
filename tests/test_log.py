"""metrics.jsonl and TensorBoard across a resume."""

import json

import numpy as np
import pytest

from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import atomic_write
from jaxgan.training.log import MetricsLog, read_metrics, read_warnings


def write_run(workdir, steps, *, resume_step=0, **options):
    log = MetricsLog(workdir, resume_step=resume_step, **options)
    for step in steps:
        log.scalars(step, {"kimg": step * 0.064, "loss/d": 1.0 / 3.0 + step})
    log.close()


def test_a_line_keeps_order_and_full_precision(tmp_path):
    log = MetricsLog(tmp_path)
    values = {"loss/d": np.float32(0.1), "kimg": 0.1 + 0.2, "acc/real": 1.0}
    log.scalars(np.int64(3), values)
    line = (tmp_path / "metrics.jsonl").read_text()  # readable before close
    log.close()
    assert line.startswith('{"step": 3, "kimg": 0.30000000000000004, "loss/d": ')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 3} | {k: float(v) for k, v in values.items()}]


def test_values_that_are_not_finite_are_null(tmp_path):
    log = MetricsLog(tmp_path)
    log.scalars(1, {"kimg": 1.0, "penalty/r2": np.inf, "loss/d": np.nan})
    log.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line) == {"step": 1, "kimg": 1.0, "penalty/r2": None, "loss/d": None}
    (record,) = read_metrics(tmp_path / "metrics.jsonl")
    assert np.isnan(record["loss/d"])


@pytest.mark.parametrize("resume_step", [0, 1, 3, 5])
@pytest.mark.parametrize("torn", [b"", b'{"step": 6, "ki', b'{"step": 6, "kimg": 1.0}'])
def test_a_killed_run_resumed_writes_the_lines_of_an_unbroken_one(tmp_path, resume_step, torn):
    write_run(tmp_path / "unbroken", range(1, 8))
    write_run(tmp_path / "killed", range(1, 6))
    with (tmp_path / "killed/metrics.jsonl").open("ab") as file:
        file.write(torn)
    write_run(tmp_path / "killed", range(resume_step + 1, 8), resume_step=resume_step)
    killed, unbroken = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("killed", "unbroken")]
    assert killed == unbroken
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["metrics.jsonl"]


def test_read_metrics_leaves_out_a_torn_line_only_at_the_end(tmp_path):
    path, (one, two) = tmp_path / "metrics.jsonl", ('{"step": 1, "kimg": 0.1}\n', '{"step": 2, "kimg": 0.2}\n')
    path.write_text(one + two + '{"st')
    assert read_metrics(path) == [{"step": 1, "kimg": 0.1}, {"step": 2, "kimg": 0.2}]
    for bad, problem in {
        '{"st\n': "not JSON",
        "[1]\n": "no record",
        '{"a": 1}\n': "no record",
        '{"step": 1, "kimg": 1, "loss/d": [1]}\n': "a value that",
        "\0\n": "not JSON",
        "[" * 100_000 + "\n": "not JSON",
        '{"step": null, "kimg": 1}\n': "no record",
    }.items():
        path.write_text(f"{one}{bad}\n{two}")
        with pytest.raises(RunFailed, match=rf"metrics\.jsonl, line 2: {problem} .*to remove this line: sed -i 2d /"):
            read_metrics(path)


@pytest.mark.parametrize("damage", [lambda path: path.write_text("5\n"), lambda path: path.mkdir()])
def test_warnings_that_cannot_be_read_are_moved_aside(tmp_path, damage):
    write_run(tmp_path, range(1, 4))
    damage(tmp_path / "warnings.jsonl")
    lines = []
    log = MetricsLog(tmp_path, resume_step=3, warn=lines.append)
    log.warning(4, 0.4, "mode collapse")
    log.close()
    (line,), (aside,) = lines, tmp_path.glob("warnings.jsonl.*.damaged")
    assert line.startswith("warning: ")
    assert line.endswith(f"it is now {aside.name}")
    assert [warning["text"] for warning in read_warnings(tmp_path)] == ["mode collapse"]


@pytest.mark.parametrize(
    "change", [lambda b: b, lambda b: b.replace(b"0.128", b"0.129"), lambda b: b[:40], lambda b: b""]
)
def test_a_log_that_is_not_what_was_written_is_noticed(tmp_path, change):
    write_run(tmp_path, range(1, 4))
    log = MetricsLog(tmp_path, resume_step=3)
    mark, file = log.mark, tmp_path / "metrics.jsonl"
    log.scalars(4, {"kimg": 0.4})
    log.close()
    good = file.read_bytes()
    file.write_bytes(change(good))
    log = MetricsLog(tmp_path, resume_step=4, mark=mark)
    log.close()
    assert log.is_as_marked == (change(good) == good)


def test_a_line_that_the_disk_does_not_take_leaves_nothing_behind(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path)
    log.scalars(1, {"kimg": 0.1})
    file = log._file

    class Full:
        name, fileno, truncate, close = file.name, file.fileno, file.truncate, file.close

        def write(self, line):
            return file.write(line[:5])

    log._file = Full()
    with pytest.raises(OSError, match=r"No space left on device: .*metrics\.jsonl"):
        log.scalars(2, {"kimg": 0.2})
    log._file = file
    log.scalars(3, {"kimg": 0.3})
    log.close()
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 3]


def test_the_history_is_what_the_file_holds(tmp_path):
    write_run(tmp_path, range(1, 6))
    log = MetricsLog(tmp_path, resume_step=3)
    log.scalars(4, {"kimg": np.float32(1.0), "loss/d": 2})
    assert log.history.lines() == read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in log.history.lines()] == [1, 2, 3, 4]
    log.close()


def test_inactive_writes_nothing(tmp_path):
    log = MetricsLog(tmp_path / "run", active=False, trackers=["wandb"])
    log.config({"seed": 0})
    log.scalars(1, {"kimg": 1.0})
    log.images(1, "samples", np.zeros((8, 8, 3), np.uint8))
    log.flush()
    log.close()
    assert not (tmp_path / "run").exists()


def test_a_bucket_is_refused():
    with pytest.raises(ConfigError, match="workdir=gs://bucket/run is not a local directory"):
        MetricsLog("gs://bucket/run")


def test_atomic_write_replaces_and_leaves_no_temporary_file(tmp_path):
    atomic_write(tmp_path / "a", b"old")
    atomic_write(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


def test_atomic_write_leaves_nothing_of_what_it_could_not_write(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_write(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
