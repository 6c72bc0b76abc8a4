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
next step; the line comes last and says that all is done, but for the curves, which are drawn on a thread meanwhile.

Example:
  def weight_norm(step, state, metrics, generator):
      return {"mine/norm": optax.tree.norm(state.g.params)}
  jaxgan.train(config, "runs/mine", hooks=[weight_norm, jaxgan.every(100.0, show)])
"""

import contextlib
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np

from jaxgan.core.checkpoint import CheckpointError
from jaxgan.core.errors import ConfigError, RunFailed, is_finite, require
from jaxgan.core.parallel import broadcast, first_replica
from jaxgan.gan.state import TrainState
from jaxgan.sampling.generator import Generator
from jaxgan.settings import steps
from jaxgan.training.run import Run, TrainingDiverged

Hook = Callable[[int, TrainState, dict[str, float], Generator], dict[str, float] | None]


def _named(hook: Hook):
    """Returns what gives a hook its name: of a partial its function, of an object its class."""
    hook = getattr(hook, "func", hook)
    return hook if hasattr(hook, "__qualname__") else type(hook)


def every(kimg: float | tuple[float, ...], function: Hook) -> Hook:
    """Returns `function` as a hook that is called every `kimg` thousand images; 0: only at the end of the run."""

    kimgs = kimg if isinstance(kimg, tuple) else (kimg,)
    good = bool(kimgs) and all(is_finite(k, 0.0) for k in kimgs)
    require(good, "every_kimg", kimg, "must be a finite number, 0 or above, or several")
    require(callable(function), "function", function, "give a function hook(step, state, metrics, generator)")

    @functools.wraps(_named(function))
    def hook(step, state, metrics, generator):
        return function(step, state, metrics, generator)

    hook.every_kimg = kimg
    return hook


def checked(hook: Hook) -> Hook:
    """Returns a user's hook, which says by a ConfigError what is wrong with what it returns."""

    @functools.wraps(_named(hook))
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
    """Returns a user's hooks, each `checked`; a ConfigError names what is not a hook."""
    right = "give a list of functions hook(step, state, metrics, generator)"
    require(isinstance(hooks, Iterable), "hooks", hooks, right)
    hooks = list(hooks)
    require(all(map(callable, hooks)), "hooks", hooks, right)
    return [every(hook.every_kimg, checked(hook)) if hasattr(hook, "every_kimg") else checked(hook) for hook in hooks]


def cadences(hooks: Iterable[Hook]) -> list[float]:
    """Returns all cadences of the hooks that have one."""
    kimgs = (getattr(hook, "every_kimg", ()) for hook in hooks)
    return [kimg for one in kimgs for kimg in (one if isinstance(one, tuple) else (one,))]


class HookCaller:
    """Calls the hooks that are due after a step, in order, with what the ones before returned.

    Args:
      hooks: as `standard.all_hooks` returns them: the first one saves the state, the last one keeps the past.
      step: the step that the run begins or resumes at.
      first: a hook that is called before the first step only.
    """

    def __init__(self, run: Run, hooks: Iterable[Hook], step: int, first: Hook):
        self._run, self._finite = run, step  # the last step whose metrics were looked at
        self._first = first
        self._hooks = [(hook, [steps(run.config, kimg) for kimg in cadences([hook])]) for hook in hooks]

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
        """Calls what is due at a step whose checkpoint was restored, unless the start before came to its line.

        Step 0 has no checkpoint: what the run begins with is due there.
        """
        written = broadcast({"line": float(self._run.log.has_line(step))})["line"]
        if not step:
            self._call([self._first], step, state, {}, leaving)
        elif not written and (due := self._due(step)):
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
            raise TrainingDiverged(", ".join(bad), self._finite, step, self._run)
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

    def finish(self, step: int, *last: Hook) -> None:
        """Calls the last hooks and keeps the past of a run once its last checkpoint is on the disk."""
        for hook in (*last, self._hooks[-1][0]):
            self._attempt(hook, step, None, {}, None)

    def _attempt(self, hook: Hook, step: int, *arguments) -> dict[str, float]:
        """Returns what a hook returns; the run goes on without that if it fails."""
        try:
            return hook(step, *arguments) or {}
        except (RunFailed, CheckpointError):
            raise
        except Exception as error:
            broken = isinstance(error, jax.errors.JaxRuntimeError | ValueError) and not isinstance(error, ConfigError)
            if broken and jax.process_count() > 1:  # an exchange with a process that is lost
                raise
            self._run.warn(_named(hook).__qualname__, step, error)
            return {}
