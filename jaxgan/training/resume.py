"""What a resumed run takes from its checkpoint, what it may change, and what it may not."""

import contextlib
import pathlib

import jax
from etils import epath

from jaxgan import settings
from jaxgan.core.checkpoint import CheckpointError, Checkpoints, find, restore_items
from jaxgan.core.errors import ConfigError, RunFailed, summary
from jaxgan.core.files import as_path, atomic_write, same_place
from jaxgan.core.parallel import broadcast_arrays
from jaxgan.data import DataSpec
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.schedules import depends_on_run_length
from jaxgan.gan.state import TrainState, init_state
from jaxgan.training.log import last_step
from jaxgan.training.start import Start

# How long, how often, where and how fast are free to change, but not what the arrays mean.
_FREE_ON_RESUME = (
    "train_kimg", "steps_per_dispatch", "accumulate", "remat", "parallel", "cpu_devices", "data.dir", "data.manual_dir",
    "data.cache_gb", "data.eval_split", "log.", "sample.", "eval.", "health.", "checkpoint.", "on_divergence",
    "max_rollbacks", "stop.",
)  # fmt: skip

# A file of the workdir, see `note_checkpoints`. Who copies a run without its checkpoints may leave out checkpoint*.
WHERE_CHECKPOINTS_ARE = "saved_in.txt"


def checkpoint_directory(config, workdir: pathlib.Path) -> pathlib.Path | epath.Path:
    """Returns where a run keeps its checkpoints."""
    given = config.checkpoint.dir
    if not given:
        return workdir / "checkpoints"
    directory = as_path(given, "config.checkpoint.dir")
    try:
        directory.exists()
    except ImportError as error:  # of a bucket: gs:// and s3:// have a package each
        right = f"{summary(error)}; for gs:// it is in the extra gcs"
        raise ConfigError(f"config.checkpoint.dir={given!r}: {right}") from error
    return directory


def note_checkpoints(workdir: pathlib.Path, directory: pathlib.Path | epath.Path) -> None:
    """Writes into `workdir` that this run has checkpoints in `directory`, as soon as there is a complete one.

    A log alone does not say that: a run that is killed before its first checkpoint has one too, and rightly begins
    again. From this note on, a start that finds no checkpoint is refused by `require_checkpoints`.
    """
    file = workdir / WHERE_CHECKPOINTS_ARE
    content = f"{directory}\n".encode()
    if not (file.exists() and file.read_bytes() == content) and _has_checkpoint(directory):
        atomic_write(file, content)


def require_checkpoints(workdir: pathlib.Path, directory: pathlib.Path | epath.Path, config) -> bool:
    """Returns whether the run in `workdir` has a checkpoint in `directory`, damaged or not.

    Args:
      config: of this start, for a run that has no readable config.json.

    Raises:
      ConfigError: it once had, and has none: they are elsewhere, or on a disk that is missing. To begin again would
        overwrite the log of what they hold.
    """
    file, there = workdir / WHERE_CHECKPOINTS_ARE, str(directory)
    found = _has_checkpoint(directory)
    if (file.exists() or _logged_two_saves(workdir, config)) and not found:
        known = file.read_text(errors="replace").strip() if file.exists() else there
        places = f"in {known!r}, and now there is none" + f" in {there!r}" * (known != there)
        raise ConfigError(
            f"workdir={str(workdir)!r}: this run had checkpoints {places}. Bring them back or name their directory "
            "by config.checkpoint.dir; to begin again, give another workdir or remove this one"
        )
    return found


def save_cadences(config) -> tuple[float, ...]:
    """Returns how often a run saves, in kimg: the best checkpoint and those to keep must be saved to be kept."""
    section = config.checkpoint
    scored = (config.eval.every_kimg,) if section.best_metric else ()
    return (section.every_kimg, section.keep_every_kimg, *scored)


def _logged_two_saves(workdir: pathlib.Path, config) -> bool:
    """Returns whether the log goes on to a second save, which waits until the first one is complete.

    It tells of checkpoints where the note of them is lost, or could not be written.
    """
    with contextlib.suppress(OSError, RunFailed):
        config = settings.read(workdir / "config.json")
    every = [steps for kimg in save_cadences(config) if (steps := settings.steps(config, kimg))]
    saves = sorted({times * steps for steps in every for times in (1, 2)})
    return len(saves) > 1 and last_step(workdir / "metrics.jsonl") >= saves[1]


def _has_checkpoint(directory) -> bool:
    try:
        return same_place(find(directory)[0], directory)
    except CheckpointError:
        return False


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
        both = old[key], new[key]
        if new[key] != old[key] and not (key in settings.PATHS and all(both) and same_place(*both)):
            # A schedule over the whole run has another past when the run gets another length.
            is_free = key.startswith(_FREE_ON_RESUME) and not (key == "train_kimg" and over_run)
            reason = f" ({' and '.join(over_run)} would have had another past)" * (key == "train_kimg" and not is_free)
            target = free if is_free else fixed
            target.append(f"config.{key}: {old[key]!r} -> {new[key]!r}{reason}")
    return free, fixed


def compare_with_saved(config, data: DataSpec | None, saved: dict) -> list[str]:
    """Returns what changed since a checkpoint, in lines.

    Args:
      data: what is trained on now; None: not known.
      saved: what the checkpoint says of its run.

    Raises:
      ConfigError: the arrays would mean something else now.
    """
    free, fixed = changes(config, settings.from_dict(saved["config"]))
    for name, new in data._asdict().items() if data else ():
        if new != (old := saved["data"][name]):
            fixed.append(f"{name} of the images: {old!r} -> {new!r}")
    if fixed and not config.checkpoint.allow_config_change:
        raise ConfigError(
            f"this run was started with other settings: {'; '.join(fixed)}. Use another workdir, or "
            "--config.checkpoint.allow_config_change=True if the checkpoint still fits"
        )
    return [f"changed since the checkpoint: {change}" for change in free + fixed]


def changes_on_resume(config, workdir: pathlib.Path) -> list[str]:
    """Returns what a start with `config` would change of the run in `workdir`, if one is there; writes nothing.

    Raises:
      ConfigError: that start would be refused.
    """
    directory = checkpoint_directory(config, workdir)
    if not require_checkpoints(workdir, directory, config):
        return []
    _, saved, _ = restore_items(directory, None, [])
    return compare_with_saved(config, None, saved)


def checkpoint_items(state: TrainState) -> dict:
    """Returns a state as the items of a checkpoint: the variables of G, of D and of the EMA can be read alone."""
    nets = {name: getattr(state, name) for name in ("g", "d")}
    rest = {name: net.replace(params={}, model_state={}) for name, net in nets.items()}
    averages = {"ema": state.ema, "posthoc_ema": state.posthoc_ema}
    return {
        "state": state.replace(ema={}, posthoc_ema={}, **rest),
        **{name: net.variables for name, net in nets.items()},
        **averages,
    }


def restore_or_init(checkpoints: Checkpoints, recipe: Recipe, key: jax.Array, start: Start | None = None) -> TrainState:
    """Returns the state of the newest undamaged checkpoint, or the one before the first step, with `start` in it."""
    items = checkpoints.restore(checkpoint_items(jax.eval_shape(init_state, recipe, key)))
    if items is None:
        state = _initialise(recipe, key)
        return state if start is None else start.put_into(state, recipe)
    state = items["state"]
    nets = {name: getattr(state, name).with_variables(items[name]) for name in ("g", "d")}
    return state.replace(ema=items["ema"], posthoc_ema=items["posthoc_ema"], **nets)


def _initialise(recipe: Recipe, key: jax.Array) -> TrainState:
    """Returns the state before the first step, computed on the CPU, or on the accelerator if JAX was started without.

    So its bits do not depend on the accelerator, which would compile for long what runs once: half a minute for BigGAN
    on an H200. Of several processes, whose CPUs may round differently, the primary one's counts.
    """
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        device = jax.local_devices()[0]
    with jax.default_device(device):
        state = jax.jit(init_state)(recipe, key)
    return broadcast_arrays(state)
