"""What a signal in training is answered with; what it does to a run is in test_train.py."""

import os
import signal
import time

from jaxgan.training.interrupt import Interrupt


def test_a_signal_says_what_it_waits_for():
    lines = []
    with Interrupt(lines.append) as interrupt, interrupt.held_by("the compilation"):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)
    assert interrupt.status == 128 + signal.SIGTERM
    right = "SIGTERM: the state is saved after the compilation, which nothing can interrupt; "
    assert lines == [right + "a second one ends the run at once"]
