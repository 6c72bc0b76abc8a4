"""What a run remembers of its log."""

import numpy as np
import pytest

from jaxgan.training.history import History


def records(count):
    return [
        {"step": i, "kimg": i / 10, "loss/d": float(i)} | ({"eval/fid": float((i - 700) ** 2)} if i % 10 == 0 else {})
        for i in range(1, count + 1)
    ]


def test_a_short_run_is_remembered_whole():
    lines = History(records(90), limit=64 * 4).lines()
    assert [line["loss/d"] for line in lines if "loss/d" in line] == list(range(1, 91))
    assert [line["step"] for line in lines if "eval/fid" in line] == list(range(10, 91, 10))


@pytest.mark.parametrize("count", [63, 64, 65, 1000, 5000])
def test_memory_is_bounded_and_recent_lines_are_whole(count):
    history = History(records(count), limit=64)
    usual = [line["step"] for line in history.lines() if "loss/d" in line]
    assert len(usual) <= 65
    assert usual[-32:] == list(range(max(count - 31, 1), count + 1))
    even = np.diff([line["step"] for line in history.lines(even=True) if "loss/d" in line])
    assert len(set(even)) == 1
    assert even.size >= min(count, 32) // 2 - 1
    scored = [line["step"] for line in history.lines() if "eval/fid" in line]
    assert scored[-1] == count // 10 * 10
    assert len(scored) >= min(count // 10, 32)


def test_a_resumed_run_remembers_the_same():
    whole, resumed = History(records(700), limit=32), History(records(400), limit=32)
    for record in records(700)[400:]:
        resumed.add(record)
    assert whole.lines() == resumed.lines()
    assert whole.best == resumed.best


def test_the_best_scores_are_never_forgotten():
    history = History(records(2000), limit=8)
    assert history.best["eval/fid"] == ((0.0, 70.0), (1300.0**2, 200.0))
    history.add({"step": 2001, "kimg": 200.1, "eval/fid": float("nan")})
    history.add({"step": 2002, "kimg": 200.2, "eval/fid": 0.0})  # of equals the first
    assert history.best["eval/fid"][0] == (0.0, 70.0)
