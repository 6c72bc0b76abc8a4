"""What a resumed run takes from its checkpoint, what it may change, and what it may not."""

import json
import pathlib

import jax

from jaxgan import settings
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError
from jaxgan.data import DataSpec
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.schedules import depends_on_run_length
from jaxgan.gan.state import TrainState, init_state

# How long, how often, where and how fast are free to change, but not what the arrays mean.
_FREE_ON_RESUME = (
    "train_kimg", "steps_per_dispatch", "parallel", "data.dir", "data.manual_dir", "data.cache_gb",
    "data.eval_split", "log.", "sample.", "eval.", "health.", "checkpoint.", "on_divergence", "max_rollbacks", "stop.",
)  # fmt: skip


def changes(config, saved) -> tuple[list[str], list[str]]:
    """Returns the settings that differ from a saved run's, as "config.name: old -> new": free ones and fixed ones."""
    old, new = settings.flatten(saved), settings.flatten(config)
    over_run = [
        f"config.{key}={value!r}"
        for key, value in new.items()
        if key.endswith("_schedule") and depends_on_run_length(value)
    ]
    free, fixed = [], []
    for key in new:
        if new[key] != old[key]:
            # A schedule over the whole run has another past when the run gets another length.
            is_free = key.startswith(_FREE_ON_RESUME) and not (key == "train_kimg" and over_run)
            reason = f" ({' and '.join(over_run)} would have had another past)" * (key == "train_kimg" and not is_free)
            target = free if is_free else fixed
            target.append(f"config.{key}: {old[key]!r} -> {new[key]!r}{reason}")
    return free, fixed


def compare_with_saved(config, data: DataSpec, workdir: pathlib.Path, checkpoints: Checkpoints) -> list[str]:
    """Returns what changed since the newest checkpoint, [] if there is none.

    Raises:
      ConfigError: the arrays would mean something else now, or the run keeps its checkpoints elsewhere.
    """
    saved = checkpoints.restore_run()
    if saved is None:
        file = workdir / "config.json"
        before = file.exists() and json.loads(file.read_text())["checkpoint"]["dir"]
        if before and before != config.checkpoint.dir:
            raise ConfigError(f"config.checkpoint.dir={config.checkpoint.dir!r}: this run keeps them in {before!r}")
        return []
    free, fixed = changes(config, settings.from_dict(saved["config"]))
    for name, new in data._asdict().items():
        if new != (old := saved["data"][name]):
            fixed.append(f"{name} of the images: {old!r} -> {new!r}")
    if fixed and not config.checkpoint.allow_config_change:
        raise ConfigError(
            f"this run was started with other settings: {'; '.join(fixed)}. Use another --workdir, or "
            "--config.checkpoint.allow_config_change=True if the checkpoint still fits"
        )
    return free + fixed


def checkpoint_items(state: TrainState) -> dict:
    """Returns a state as the items of a checkpoint: sampling reads the item `ema` alone."""
    rest = state.replace(ema={}, posthoc_ema={})
    return {"state": rest, "ema": state.ema, "posthoc_ema": state.posthoc_ema}


def restore_or_init(checkpoints: Checkpoints, recipe: Recipe, key: jax.Array) -> TrainState:
    """Returns the state of the newest undamaged checkpoint, or the one before the first step."""
    items = checkpoints.restore(checkpoint_items(jax.eval_shape(init_state, recipe, key)))
    if items is None:
        return jax.jit(init_state)(recipe, key)
    return items["state"].replace(ema=items["ema"], posthoc_ema=items["posthoc_ema"])
