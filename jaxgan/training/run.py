"""The parts of a run that its loop and its hooks share."""

import pathlib
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxgan.core.aside import Aside
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import RunFailed, summary
from jaxgan.core.failures import write_traceback
from jaxgan.core.files import announce
from jaxgan.core.parallel import Devices, first_replica, is_primary_process
from jaxgan.data import DataSpec
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import TrainState
from jaxgan.sampling.generator import Generator
from jaxgan.training.console import Progress, Throughput
from jaxgan.training.log import MetricsLog
from jaxgan.training.mirror import Mirror


@dataclass(frozen=True)
class Run:
    """The parts of a run that its hooks share."""

    config: Any  # a ConfigDict
    recipe: Recipe
    data: DataSpec
    workdir: pathlib.Path
    total_steps: int
    devices: Devices
    checkpoints: Checkpoints
    log: MetricsLog
    console: Progress
    speed: Throughput
    mirror: Mirror
    rollbacks: int = 0  # times that the run went back to a checkpoint after a divergence
    aside: Aside = field(default_factory=Aside)  # for what need not hold up the next step
    about: dict = field(default_factory=dict)  # what is in about.json, as far as this start wrote it
    told: set = field(default_factory=set)  # kinds of failures that `warn` told of

    @property
    def key(self) -> jax.Array:
        """The key of the run, another one after each rollback."""
        key = jax.random.key(self.config.seed)
        return jax.random.fold_in(key, self.rollbacks) if self.rollbacks else key

    @property
    def saved(self) -> int:
        """The step of the last good checkpoint; 0: there is none yet."""
        return self.checkpoints.latest_step() or 0

    @property
    def images_at_once(self) -> int:
        """Images that a device takes at a time, whatever it does with them."""
        return self.recipe.images_at_once(len(self.devices.devices))

    def grid_file(self, step: int) -> pathlib.Path:
        """Returns where the grid of a step is, such as samples/000064.000kimg.png, which says it to an image."""
        return self.workdir / "samples" / f"{step * self.recipe.images_per_step / 1e3:010.3f}kimg.png"

    def ema_generator(self, state: TrainState, step: int) -> Generator:
        """Returns the EMA generator of this step, on this process's first device."""
        return Generator(
            self.recipe.generator,
            first_replica(state.ema),
            z_dim=self.recipe.z_dim,
            step=step,
            batch_size=self.images_at_once,
            config=self.config,
            data=self.data,
        )

    def warn(self, what: str, step: int, error: Exception) -> None:
        """Tells of a failure that the run does without, once each kind, on whichever process it is."""
        kind = (what, type(error))
        if kind in self.told:
            return
        self.told.add(kind)
        file = write_traceback(error, self.workdir)
        where = f" (traceback in {file})" if file else ""
        line = f"warning: {what} failed at step {step}, the run goes on: {summary(error)}{where}"
        self.console.note(line) if is_primary_process() else announce(line)


class TrainingDiverged(RunFailed):
    """Says that a metric or the state is not finite any more."""

    def __init__(self, symptom: str, since: int, step: int, run: Run):
        good = f"the checkpoint of step {run.saved} is good" if run.saved else "there is no checkpoint yet"
        self.symptom = f"{symptom}, between step {since} and step {step}"
        rates = "a lower --config.optim_d.lr and --config.optim_g.lr"
        norms = "--config.optim_d.clip_norm=1 and --config.optim_g.clip_norm=1"
        advice = f"Try {rates}, {norms}, or --config.on_divergence=rollback"
        if run.config.on_divergence == "rollback":
            advice = (
                f"All {run.config.max_rollbacks} rollbacks (config.max_rollbacks) are used. Try {rates}, or {norms}"
            )
        super().__init__(f"{self.symptom}; {good}. {advice}")
