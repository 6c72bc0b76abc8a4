"""train(config, workdir): build, restore, loop, log, sample, evaluate, diagnose, save.

Everything with a cadence happens at whole calls of the compiled step. The line in metrics.jsonl is written before
the checkpoint of the same step, and a resumed run first drops the lines after its checkpoint: no gaps, no doubles.
"""

import collections
import functools
import math
import os
import signal
import time

import jax
import numpy as np
from absl import logging
from etils import epath

from jaxgan import config as configs
from jaxgan import data, diagnose, parallel, plots, rng
from jaxgan.checkpoint import Checkpoints, all_finite
from jaxgan.config import ConfigError, images_per_step
from jaxgan.evaluate import make_evaluator
from jaxgan.generator import Generator
from jaxgan.log import MetricsLog, Progress, Throughput
from jaxgan.state import Nets, TrainState, create_state, make_nets
from jaxgan.update import make_update, normalise, real_batches_per_step, scan_steps

IN_FLIGHT = 2  # calls dispatched ahead of the device: enough to hide the host, few enough to stop soon


class TrainingDiverged(RuntimeError):
    """Loss or state are no longer finite."""


class Interrupt:
    """SIGTERM and Ctrl-C as a flag that the loop reads; the second signal ends the process at once.

    With several processes SIGTERM is left to JAX's preemption service, which makes all of them stop at one step.
    """

    def __init__(self):
        self.status = 0  # exit status of the signal that came: 143 or 130

    def __enter__(self):
        self._alone = jax.process_count() == 1
        caught = [signal.SIGINT, signal.SIGTERM] if self._alone else [signal.SIGINT]
        self._previous = {s: signal.signal(s, self._handle) for s in caught}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.status:
            os._exit(self.status)
        self.status = 128 + number
        if not self._alone:  # tell the others the way that a scheduler would
            os.kill(os.getpid(), signal.SIGTERM)
