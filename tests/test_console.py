"""The console's lines, and the arithmetic of speed."""

import io

import numpy as np
import pytest

from jaxgan.core.words import format_duration
from jaxgan.training.console import Progress, Throughput


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (45, "45 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7020, "1 h 57 min"),
        (86399, "1 d 0 h"),
        (2.125 * 86400, "2 d 3 h"),
    ],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """What a terminal shows of the text written: a carriage return overwrites the line."""
        rows = []
        for row in self.getvalue().split("\n"):
            cells = []
            for piece in row.split("\r"):
                cells[: len(piece)] = piece
            rows.append("".join(cells).rstrip())
        return rows


FIRST = dict(
    step=1200,
    total_steps=100000,
    kimg=76.8,
    images_per_second=812.4,
    seconds_left=7020,
    loss_d=1.234,
    loss_g=-0.321,
    data_wait=0.003,
)
LINE = "step 1200/100000 | 76.8 kimg | 812 img/s | 1 h 57 min left | D 1.234 G -0.321 | data 0.3%"


def test_progress_elsewhere_is_one_line_each():
    stream = io.StringIO()
    progress = Progress(stream)
    progress.header("jaxgan", {"generator": 4276739, "precision": "bfloat16"})
    progress.line(**FIRST)
    progress.note("saved")
    progress.line(**FIRST | dict(images_per_second=np.nan, seconds_left=np.nan, data_wait=np.nan))
    progress.close()
    assert stream.getvalue().splitlines() == [
        "jaxgan",
        "  generator  4,276,739",
        "  precision  bfloat16",
        LINE,
        "saved",
        "step 1200/100000 | 76.8 kimg | D 1.234 G -0.321",
    ]


def test_progress_on_a_terminal_is_rewritten_in_place(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    progress = Progress(stream)
    progress.line(**FIRST)
    assert stream.screen() == [LINE]
    progress.line(**FIRST | dict(seconds_left=50))  # shorter than what it covers
    assert stream.screen() == [LINE.replace("1 h 57 min", "50 s")]
    progress.note("saved\ntwice")
    assert stream.screen() == ["saved", "twice", LINE.replace("1 h 57 min", "50 s")]
    progress.line(**FIRST)
    progress.close()
    assert stream.screen() == ["saved", "twice", LINE, ""]


@pytest.mark.parametrize("columns", [10, 40, 60, 81, len(LINE), len(LINE) + 1])
def test_progress_never_wraps(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    Progress(stream).line(**FIRST)
    (shown,) = stream.screen()
    assert len(shown) < columns
    assert LINE.startswith(shown)
    assert (shown == LINE) == (columns > len(LINE))


def test_progress_inactive_is_silent(capsys):
    progress = Progress(active=False)
    progress.header("jaxgan", {"seed": 0})
    progress.line(**FIRST)
    progress.note("saved")
    progress.close()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_work_that_takes_time_says_how_much(terminal, monkeypatch):
    waits = iter([False, False, True])  # a tick of the seconds, twice, and the end

    class Event:
        def wait(self, seconds):
            return next(waits)

        def set(self):
            pass

    counts = iter([(0, 0), (1, 0)])
    times = iter([0.0, 1.0, 2.0, 12.0] if terminal else [0.0, 12.0])
    monkeypatch.setattr("jaxgan.training.console.found_and_missed", lambda: next(counts))
    monkeypatch.setattr("jaxgan.training.console.Event", Event)
    monkeypatch.setattr("jaxgan.training.console.time.perf_counter", lambda: next(times))
    stream = Terminal() if terminal else io.StringIO()
    with Progress(stream).working("compiling"):
        pass
    if terminal:
        assert "compiling ... 1 s\rcompiling ... 2 s\r" in stream.getvalue()
        assert stream.screen() == ["compiling: 12 s, from the cache", ""]
    else:
        assert stream.getvalue() == "compiling ...\ncompiling: 12 s, from the cache\n"


def test_throughput_leaves_out_compilation_and_pauses():
    now = [0.0]
    speed = Throughput(total_images=1000, clock=lambda: now[0])
    now[0] = 60.0  # compilation
    assert np.isnan(speed.tick(10)).all()
    assert not speed.started
    speed.start(10)
    now[0] = 65.0
    with speed.waiting():
        now[0] = 66.0
    now[0] = 70.0
    assert speed.tick(110) == (10.0, 89.0, 0.1)  # 100 images in 10 s; 890 left
    with speed.paused():
        now[0] = 80.0
    now[0] = 85.0
    # 100 images in 5 s of training, but 200 in 25 s overall, and 790 are left.
    assert speed.tick(210) == (20.0, 98.75, 0.0)
    assert np.isnan(speed.tick(210)).all()


def test_the_seconds_of_a_run_go_on_over_its_starts():
    now = [100.0]
    speed = Throughput(total_images=1000, seconds=60.0, clock=lambda: now[0])
    now[0] = 103.0
    with speed.paused():
        now[0] = 105.0
        assert speed.seconds == 65.0


def test_a_tick_within_a_pause_ends_the_interval_where_the_pause_began():
    now = [0.0]
    speed = Throughput(total_images=1000, clock=lambda: now[0])
    speed.start(0)
    now[0] = 10.0
    with speed.paused():
        now[0] = 15.0
        assert speed.tick(100) == (10.0, 90.0, 0.0)
        now[0] = 30.0
    now[0] = 35.0
    assert speed.tick(200) == (20.0, 140.0, 0.0)  # 5 s of training; 35 s for 200 images overall
