"""The tool that draws scores over minutes."""

import json

import numpy as np
import pytest

from tests.helpers import load_tool

tool = load_tool("plot_scores")


def test_scores_are_placed_at_the_minutes_of_their_log(tmp_path):
    """A score that has no time of its own lies between the lines before and after it."""
    records = [
        {"step": 10, "kimg": 1.0, "perf/seconds": 60.0},
        {"step": 15, "kimg": 1.5, "eval/fd_cifar": 40.0},
        {"step": 20, "kimg": 2.0, "perf/seconds": 180.0, "eval/fd_cifar": 20.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"version": 1} | r) + "\n" for r in records))
    points = tool.minutes_and_scores(tmp_path, "eval/fd_cifar")
    np.testing.assert_allclose(points, [(2.0, 40.0), (3.0, 20.0)])


def test_a_run_without_the_score_is_named(tmp_path, monkeypatch, capsys):
    record = {"version": 1, "step": 1, "kimg": 1.0, "perf/seconds": 9.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    monkeypatch.setattr("sys.argv", ["plot_scores.py", f"mine={tmp_path}", f"--out={tmp_path}/plot.svg"])
    with pytest.raises(SystemExit):
        tool.main()
    assert capsys.readouterr().err.endswith("error: mine: no eval/fd_cifar in the log of the run\n")
    assert not (tmp_path / "plot.svg").exists()


def test_each_run_is_a_line_that_is_named():
    curves = {"new": np.array([(5.0, 30.0), (10.0, 6.0)]), "old": np.array([(5.0, 60.0), (10.0, 25.0)])}
    axis = tool.draw(curves, "fd_cifar").axes[0]
    for line, points in zip(axis.lines, curves.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), points)
    assert [text.get_text() for text in axis.texts] == ["new, 6.0", "old, 25.0"]
