"""What happens between two steps: checkpoints, evaluation, health, samples and the log line, each a hook.

A hook is a function `hook(step, state, metrics, generator) -> dict | None`. It is called after `step` finished updates
with

  state: the `TrainState` on the devices. The next step donates its buffers, so what is to be kept must be copied.
  metrics: dict of floats, those of the last dispatch and what the hooks before this one returned.
  generator: the EMA generator of this step, a `jaxgan.Generator`; valid during the call only, as the state.

The floats that a hook returns join `metrics` and so reach the log; in metrics.jsonl one that is not finite is null.
Their names are new to the line, and none begins with eval/, health/ or perf/. With several processes every one of them
calls the hook, in the same order. A hook is called at every log line, or as often as its attribute `every_kimg` says
(one number or several; 0: only at the end of the run), and always at the end.

The state comes first: a checkpoint that is due is saved before anything else is made, and what goes wrong in another
hook is a warning, the first time that it does, while the run goes on. A hook that wants to end the run raises
`RunFailed`. What a signal or a kill left undone at the step of the checkpoint is made by the next start, before the
next step; the line comes last and says that all is done.

Example:
  def weight_norm(step, state, metrics, generator):
      return {"mine/norm": optax.tree.norm(state.g.params)}
  jaxgan.train(config, "runs/mine", hooks=[weight_norm, jaxgan.every(100.0, show)])
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxgan.core.checkpoint import CheckpointError, Checkpoints, all_finite
from jaxgan.core.errors import RunFailed, require, summary
from jaxgan.core.failures import write_traceback
from jaxgan.core.files import announce
from jaxgan.core.parallel import Devices, assert_replicated, broadcast, first_replica, is_primary_process
from jaxgan.data import DataSpec, to_float
from jaxgan.evaluation import Evaluator
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import TrainState
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.pictures import save_png, show_grid
from jaxgan.settings import steps
from jaxgan.training import plots
from jaxgan.training.console import Progress, Throughput
from jaxgan.training.health import HealthMonitor, overfitting_gap, pairwise_distance
from jaxgan.training.log import MetricsLog
from jaxgan.training.mirror import Mirror
from jaxgan.training.resume import checkpoint_items, note_checkpoints

Hook = Callable[[int, TrainState, dict[str, float], Generator], dict[str, float] | None]


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
    def per_device_batch(self) -> int:
        return self.recipe.batch_size // len(self.devices.devices)

    def ema_generator(self, state: TrainState, step: int) -> Generator:
        """Returns the EMA generator of this step, on this process's first device."""
        return Generator(
            self.recipe.generator,
            first_replica(state.ema),
            z_dim=self.recipe.z_dim,
            step=step,
            batch_size=self.per_device_batch,
            config=self.config,
            data=self.data,
        )


class TrainingDiverged(RunFailed):
    """Says that a metric or the state is not finite any more."""

    def __init__(self, symptom: str, since: int, step: int, saved: int):
        good = f"the checkpoint of step {saved} is good" if saved else "there is no checkpoint yet"
        self.symptom = f"{symptom}, between step {since} and step {step}"
        super().__init__(
            f"{self.symptom}; {good}. Try a lower --config.optim_d.lr and --config.optim_g.lr, "
            "--config.optim_d.clip_norm=1 and --config.optim_g.clip_norm=1, or --config.on_divergence=rollback"
        )


def every(kimg: float | tuple[float, ...], function: Hook) -> Hook:
    """Returns `function` as a hook that is called every `kimg` thousand images; 0: only at the end of the run."""

    kimgs = kimg if isinstance(kimg, tuple) else (kimg,)
    good = all(isinstance(k, int | float) and 0 <= k < float("inf") for k in kimgs)
    require(good, "every_kimg", kimg, "must be a finite number, 0 or above")
    require(callable(function), "function", function, "give a function hook(step, state, metrics, generator)")

    @functools.wraps(getattr(function, "func", function))  # a partial has no name of its own
    def hook(step, state, metrics, generator):
        return function(step, state, metrics, generator)

    hook.every_kimg = kimg
    return hook


def checked(hook: Hook) -> Hook:
    """Returns a user's hook, which says by a ConfigError what is wrong with what it returns."""

    @functools.wraps(getattr(hook, "func", hook))
    def call(step, state, metrics, generator) -> dict[str, float]:
        returned = hook(step, state, metrics, generator)
        right = "return a dict of numbers, or None"
        require(returned is None or isinstance(returned, dict), "returned", returned, right)
        for name, value in (returned or {}).items():
            setting = f"returned[{name!r}]"
            require(isinstance(name, str), setting, value, "must have a name that is a string")
            number = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biufV"  # V: bfloat16
            require(number, setting, value, "must be one number")
            taken = name in ("step", *metrics) or name.startswith(("eval/", "health/", "perf/"))
            require(not taken, setting, value, "is taken by the log; choose another name, such as mine/...")
        return {name: float(value) for name, value in (returned or {}).items()}

    return call


def own_hooks(hooks: Iterable[Hook]) -> list[Hook]:
    """Returns a user's hooks, each `checked`; a ConfigError says what is none."""
    right = "give a list of functions hook(step, state, metrics, generator)"
    require(isinstance(hooks, Iterable), "hooks", hooks, right)
    hooks = list(hooks)
    require(all(map(callable, hooks)), "hooks", hooks, right)
    return [every(hook.every_kimg, checked(hook)) if hasattr(hook, "every_kimg") else checked(hook) for hook in hooks]


def all_hooks(run: Run, evaluator: Evaluator, reals, held_out, own: list[Hook]) -> list[Hook]:
    """Returns the standard hooks with the user's own between them, in the order in which they are called.

    Args:
      reals: images and labels that D is trained on, held_out: others or None; see `health_metrics`.
      own: those of the user, as `own_hooks` returns them.
    """
    config = run.config
    # What is measured is logged at once, and the best checkpoint and those to keep must be saved to be kept.
    log_kimg = (config.log.every_kimg, config.eval.every_kimg, config.health.every_kimg, *_cadences(own))
    save_kimg = (config.checkpoint.every_kimg, config.checkpoint.keep_every_kimg)
    save_kimg += (config.eval.every_kimg,) if config.checkpoint.best_metric else ()
    return [
        every(save_kimg, partial(save_checkpoint, run)),
        every(config.eval.every_kimg, partial(evaluate, run, evaluator)),
        every(config.health.every_kimg, partial(check_health, run, HealthMonitor(), reals, held_out)),
        *(hook if hasattr(hook, "every_kimg") else every(log_kimg, hook) for hook in own),
        every(config.sample.every_kimg, partial(draw_samples, run)),
        every(log_kimg, partial(write_line, run)),
        every((*log_kimg, *save_kimg), partial(keep_past, run)),
    ]


def _cadences(hooks: Iterable[Hook]) -> list[float]:
    """Returns all cadences of the hooks that have one."""
    kimgs = (getattr(hook, "every_kimg", ()) for hook in hooks)
    return [kimg for one in kimgs for kimg in (one if isinstance(one, tuple) else (one,))]


class HookCaller:
    """Calls the hooks that are due after a step, in order, with what the ones before returned.

    Args:
      hooks: as `all_hooks` returns them, the one that saves the state first.
      step: the step that the run begins or resumes at.
    """

    def __init__(self, run: Run, hooks: Iterable[Hook], step: int):
        self._run, self._finite = run, step  # the last step whose metrics were looked at
        self._hooks = [(hook, [steps(run.config, kimg) for kimg in _cadences([hook])]) for hook in hooks]
        self._failures = set()  # kinds of failures that were told

    def __call__(self, step: int, state: TrainState, metrics: dict, leaving=contextlib.nullcontext) -> None:
        """Calls what is due, of several processes on all.

        Args:
          metrics: a dict of `Mean`s on the devices; one that nothing was added to is left out.
          leaving: makes a context in which all but the saving may be left undone.

        Raises:
          TrainingDiverged: a metric is not finite.
          StopRequested: by `leaving`; the state may not be saved then.
        """
        if due := self._due(step):
            self._call(due, step, state, self.means(step, metrics), leaving)

    def resume(self, step: int, state: TrainState, leaving=contextlib.nullcontext) -> None:
        """Calls what is due at a step whose checkpoint was restored, unless the start before came to its line."""
        written = broadcast({"line": float(self._run.log.has_line(step))})["line"]
        if step and not written and (due := self._due(step)):
            self._call(due, step, state, self._run.checkpoints.read_metrics(step), leaving)

    def end(self, step: int, state: TrainState, metrics: dict, leaving=contextlib.nullcontext) -> None:
        """Calls what is due at the end of the run only, where it ends at another step than it was meant to."""
        early = [hook for hook, _ in self._hooks if hook not in self._due(step)]
        self._call(early, step, state, self.means(step, metrics), leaving)

    def means(self, step: int, metrics: dict) -> dict[str, float]:
        """Returns the metrics of a dispatch as floats, with kimg; raises TrainingDiverged if one is not finite."""
        means = jax.device_get(first_replica(metrics))
        values = {name: float(mean) for name, mean in means.items() if mean.count > 0}
        if bad := [f"{name} = {value}" for name, value in values.items() if not np.isfinite(value)]:
            raise TrainingDiverged(", ".join(bad), self._finite, step, self._run.saved)
        self._finite = step
        return {"kimg": step * self._run.recipe.images_per_step / 1e3} | values

    def _due(self, step: int) -> list[Hook]:
        last = step == self._run.total_steps
        return [hook for hook, cadences in self._hooks if last or any(n and step % n == 0 for n in cadences)]

    def _call(self, hooks: list[Hook], step: int, state: TrainState, values: dict[str, float], leaving) -> None:
        generator = self._run.ema_generator(state, step)
        if hooks[0] is self._hooks[0][0]:
            save, *hooks = hooks
            save(step, state, values, generator)
        with self._run.speed.paused(), leaving():
            for hook in hooks:
                values = values | self._attempt(hook, step, state, dict(values), generator)

    def finish(self, step: int) -> None:
        """Keeps the past of a run once its last checkpoint is on the disk."""
        self._attempt(partial(keep_past, self._run), step, None, {}, None)

    def _attempt(self, hook: Hook, step: int, *arguments) -> dict[str, float]:
        """Returns what a hook returns; the run goes on without that if it fails."""
        try:
            return hook(step, *arguments) or {}
        except (RunFailed, CheckpointError):
            raise
        except Exception as error:
            self._warn(getattr(hook, "__qualname__", "keep_past"), step, error)
            return {}

    def _warn(self, hook: str, step: int, error: Exception) -> None:
        """Tells of a failure, once each kind, on whichever process it is."""
        kind = (hook, type(error))
        if kind in self._failures:
            return
        self._failures.add(kind)
        file = write_traceback(error, self._run.workdir)
        where = f" (traceback in {file})" if file else ""
        line = f"warning: {hook} failed at step {step}, the run goes on: {summary(error)}{where}"
        self._run.console.note(line) if is_primary_process() else announce(line)


def evaluate(run: Run, evaluator: Evaluator, step, state, metrics, generator) -> dict[str, float]:
    """Scores the EMA generator; all processes get the same scores, as they must agree on the best checkpoint."""
    scores = broadcast({f"eval/{name}": score for name, score in evaluator.evaluate(generator).items()})
    if scores and step == run.saved:
        run.checkpoints.rate(step, scores)
    return scores


def check_health(run: Run, monitor: HealthMonitor, reals, held_out, step, state, metrics, generator):
    """Measures the health of the run and prints warnings; see jaxgan/training/health.py."""
    if not is_primary_process():
        return None
    values = health_metrics(run.recipe, state, generator, reals, held_out, run.per_device_batch)
    for warning in monitor.check([*run.log.history.lines(), metrics | values]):
        run.console.note(f"warning: {warning}")
    return values


def _logits(discriminator, variables: dict, images, labels):
    return discriminator.apply(variables, to_float(images), labels, train=False)[0]


_jitted_logits = jax.jit(_logits, static_argnums=0)


def health_metrics(
    recipe: Recipe,
    state: TrainState,
    generator: Generator,
    reals: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    chunk: int = 64,
) -> dict[str, float]:
    """Measures the diversity of samples and the over-fitting of D.

    Args:
      state: its discriminator is asked.
      generator: gives as many samples of seed 0 as there are reals.
      reals: images uint8 [N, H, W, C] that D was trained on, and their labels int32 [N].
      held_out: the same of images that D has not seen.
      chunk: images in one call of D; a last incomplete chunk is left out.

    Returns:
      "health/variety", the pairwise distance of samples over that of reals, and with held-out images
      "health/overfit", see `overfitting_gap`. A value that cannot be told yet is left out.
    """
    d = first_replica(state.d)
    variables = {"params": d.params, **d.model_state}

    def logits(images, labels) -> np.ndarray:
        size = min(chunk, len(images))
        starts = range(0, len(images) - size + 1, size)
        parts = [
            _jitted_logits(recipe.discriminator, variables, images[i : i + size], labels[i : i + size]) for i in starts
        ]
        return np.concatenate(parts)

    z, labels, keys = generator.latents(len(reals[0]))
    fakes = generator.generate(z, labels, keys)
    spread = pairwise_distance(reals[0]) if len(reals[0]) > 1 else 0.0
    values = {"health/variety": pairwise_distance(fakes) / spread} if spread else {}
    if held_out is not None:
        values["health/overfit"] = overfitting_gap(logits(*reals), logits(*held_out), logits(fakes, labels))
    return {name: value for name, value in values.items() if np.isfinite(value)}


def draw_samples(run: Run, step, state, metrics, generator) -> None:
    """Draws a grid of fixed latents, a class in each column, and the curves so far."""
    if not is_primary_process():
        return
    rows = run.config.sample.grid
    labels = generator.class_columns(rows, rows) if generator.num_classes else None
    picture = show_grid(generator.sample(rows * rows, labels=labels), rows, run.config.data.name)
    save_png(run.workdir / "samples" / f"{step:08d}.png", picture)
    run.log.images(step, "samples", picture)
    lines = [*run.log.history.lines(even=True), {"step": step} | metrics]
    plots.curves(lines, run.workdir / "curves.png", title=str(run.workdir))


def write_line(run: Run, step, state, metrics, generator) -> dict[str, float]:
    """Writes a line of the log and shows one on the console."""
    speed = run.speed.tick(1e3 * metrics["kimg"])
    measured = {"perf/images_per_second": speed.images_per_second, "perf/data_wait": speed.data_wait}
    measured = {name: value for name, value in measured.items() if np.isfinite(value)}
    run.console.line(
        step, run.total_steps, metrics["kimg"], speed.images_per_second, speed.seconds_left,
        metrics["loss/d"], metrics["loss/g"], speed.data_wait,
    )  # fmt: skip
    for name, value in metrics.items():
        if name.startswith("eval/"):
            run.console.note(f"{name} {value:.4g} at {metrics['kimg']:,.1f} kimg")
    run.log.scalars(step, metrics | measured)
    return measured


def save_checkpoint(run: Run, step, state, metrics, generator=None) -> None:
    """Saves a state that is finite and the same on all devices; never another one."""
    if step == run.saved:
        return
    if not all_finite(first_replica(state)):
        raise TrainingDiverged("the state is not finite", run.saved, step, run.saved)
    assert_replicated(state)
    description = {
        "config": run.config.to_dict(),
        "data": run.data._asdict(),
        "rollbacks": run.rollbacks,
        "log": run.log.mark,
    }
    run.checkpoints.save(step, checkpoint_items(state), description, metrics)


def keep_past(run: Run, step, state=None, metrics=None, generator=None) -> None:
    """Notes that there are checkpoints, and brings what came with the newest one to where they are."""
    if is_primary_process():
        note_checkpoints(run.workdir, run.checkpoints.directory)
        if step == run.saved:
            run.mirror.push(step)
