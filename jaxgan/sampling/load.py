"""Loads a generator from a checkpoint."""

import os
import pathlib

import jax
import numpy as np
from etils import epath

from jaxgan.core import checkpoint
from jaxgan.core.errors import ConfigError, require, require_whole
from jaxgan.core.files import as_path, read_json
from jaxgan.core.processes import require_devices
from jaxgan.data import DataSpec
from jaxgan.gan import ema
from jaxgan.gan.recipe import make_generator
from jaxgan.sampling import exported
from jaxgan.sampling.generator import Generator
from jaxgan.settings import from_dict, images_per_step


def locate(path) -> pathlib.Path | epath.Path:
    """Returns where a workdir's checkpoints are if its config keeps them elsewhere; any other path as `as_path` does.

    Raises:
      RunFailed: its config.json is damaged.
    """
    path = as_path(path)
    config = path / "config.json"
    advice = f"name the checkpoints themselves, such as {path / 'checkpoints'}"
    elsewhere = read_json(config, "checkpoint", "dir", advice=advice) if config.exists() else ""
    return as_path(elsewhere, f"checkpoint.dir in {config}") if elsewhere else path


def choose_steps(path, step: str) -> list[tuple[int | None, str]]:
    """Returns steps of a run, None being the newest undamaged one, and the rule that chose them, in words.

    Args:
      path: as for `load`.
      step: a number, newest, best, or all.

    Raises:
      ConfigError: something else, no checkpoint, or none that is known as the best.
    """
    if step == "newest":
        return [(None, "the newest")]
    if step.isdecimal():
        return [(int(step), "as asked")]
    require(step in ("best", "all"), "step", step, "give a number, newest, best or all")
    steps = _find(path)
    if step == "all":
        return [(number, "all") for number in steps]
    try:
        best, metric = checkpoint.best_step(locate(path))
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"step={step!r}: {error}") from error
    return [(best, f"best of {len(steps)} by {metric}")]


def _find(path) -> list[int]:
    """Returns the steps of the checkpoints at a path; a ConfigError says that there are none."""
    try:
        return checkpoint.find(locate(path))[1]
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"path={str(path)!r}: {error}") from error


def load(path: str | os.PathLike, step: int | str | None = None, sigma_rel: float | None = None) -> Generator:
    """Loads the EMA generator of a workdir, a checkpoint directory or one checkpoint, onto one device of any kind.

    Args:
      path: the run, the checkpoint or what `jaxgan export` made of it; gs:// works where the extra `gcs` is installed,
        and hf://owner/name, a model on the Hugging Face Hub, where `hub` is.
      step: which checkpoint of a run; the newest undamaged one if None. "best" is the best by
        config.checkpoint.best_metric.
      sigma_rel: relative standard deviation of a post-hoc EMA (Karras et al. 2024, EDM2, section 3.2), reconstructed
        from those that the run's checkpoints hold up to `step`. The more of them (config.checkpoint.keep_every_kimg),
        the nearer it comes. None: the EMA that the run itself used.

    Raises:
      ConfigError: there is no checkpoint, or not this one; `sigma_rel` for a run whose EMA is no power function, or one
        that no power function has; arguments of another type.
      CheckpointError: all are damaged.
      RunFailed: the run's config.json is damaged.

    Example:
      jaxgan.load("runs/r3gan2", sigma_rel=0.08).sample(64)
    """
    if str(path).startswith(exported.HUB):
        path = exported.fetch(str(path))
    if (weights := as_path(path) / exported.WEIGHTS).exists():
        require(step in (None, "newest"), "step", step, f"{weights} has one step only")
        require(sigma_rel is None, "sigma_rel", sigma_rel, f"{weights} has one average only")
        return exported.read(weights.parent)
    require_devices()  # without any, the checkpoint would look damaged
    if isinstance(step, str):
        require(step != "all", "step", step, "give a number, newest or best")
        ((step, _),) = choose_steps(path, step)
    elif step is not None:
        require_whole("step", step)
    if sigma_rel is not None:
        ema.power_exponent(sigma_rel)  # or an error, before anything is read
    steps = _find(path)
    require(step is None or step in steps, "step", step, f"{path} has the checkpoints {', '.join(map(str, steps))}")
    path = locate(path)
    items, run, step = checkpoint.restore_items(path, step, ["ema"])
    config, data = from_dict(run["config"]), DataSpec(**run["data"])
    variables = items["ema"]
    if sigma_rel is not None:
        right = "the EMA of this run is no power function; train with config.ema.sigma_rel above 0"
        require(config.ema.sigma_rel > 0, "sigma_rel", sigma_rel, right)
        variables = reconstruct_ema(path, config, step, sigma_rel)
        config.ema.sigma_rel = sigma_rel
    module = make_generator(config, data)
    z_dim = config.model.z_dim
    return Generator(module, jax.device_put(variables), z_dim=z_dim, step=step, config=config, data=data)


def reconstruct_ema(path, config, step: int, sigma_rel: float):
    """Returns the variables of the post-hoc EMA at `step`, a weighted sum of those stored until then.

    Each checkpoint stores one of config.ema.sigma_rel and those of config.ema.posthoc. They are read one after the
    other, so that memory holds the sum and one checkpoint.
    """
    steps = [stored for stored in checkpoint.find(path)[1] if stored <= step]
    require(bool(steps), "path", str(path), "a post-hoc EMA takes checkpoints in directories named by their steps")
    stored_sigmas = [config.ema.sigma_rel, *config.ema.posthoc]
    images = np.repeat(steps, len(stored_sigmas)) * images_per_step(config)
    weights = ema.posthoc_weights(images, np.tile(stored_sigmas, len(steps)), images[-1], sigma_rel)

    def averages():
        names = ["ema", "posthoc_ema"] if config.ema.posthoc else ["ema"]
        for stored in steps:
            items, _, _ = checkpoint.restore_items(path, stored, names)
            yield items["ema"]
            yield from (items["posthoc_ema"][f"{sigma:g}"] for sigma in config.ema.posthoc)

    return ema.combine(averages(), weights)
