"""The training loop: build, restore or initialise, step, stop.

Everything else is a hook (hooks.py), called between two dispatches of the compiled step. A resumed run first drops the
lines of metrics.jsonl after its checkpoint and makes what is missing of its step: no gaps, no doubles.
"""

import collections
import contextlib
import json
import math
import os
import pathlib
import signal
import time
from collections.abc import Iterable
from functools import partial

import jax
from ml_collections import ConfigDict

from jaxgan import data
from jaxgan.core.checkpoint import CheckpointError, Checkpoints
from jaxgan.core.compilation_cache import keep_compiled
from jaxgan.core.errors import ConfigError, RunFailed, require, summary
from jaxgan.core.files import as_path, atomic_write, make_directories, read_json, sole_user
from jaxgan.core.memory import device_bytes, require_memory
from jaxgan.core.parallel import Devices, broadcast, is_primary_process
from jaxgan.core.processes import require_devices
from jaxgan.evaluation import Evaluator, Protocol, check_metrics, higher_is_better
from jaxgan.gan.recipe import Recipe, recipe_from_config
from jaxgan.gan.state import TrainState, check_memory
from jaxgan.gan.step import parallelize
from jaxgan.planning.size import divide
from jaxgan.sampling.generator import Generator
from jaxgan.settings import flatten, make_paths_absolute, require_settings, steps, to_json
from jaxgan.training.console import Progress, Throughput
from jaxgan.training.headers import print_resume, print_start, print_summary
from jaxgan.training.hooks import Hook, HookCaller, own_hooks
from jaxgan.training.interrupt import Interrupt, StopRequested
from jaxgan.training.log import Mark, MetricsLog
from jaxgan.training.mirror import Mirror
from jaxgan.training.resume import checkpoint_directory, compare_with_saved, require_checkpoints, restore_or_init
from jaxgan.training.run import Run, TrainingDiverged
from jaxgan.training.standard import all_hooks, await_curves, draw_first, save_checkpoint, write_report
from jaxgan.training.start import read_start
from jaxgan.training.trackers import check_trackers

IN_FLIGHT = 2  # dispatches ahead of the device: enough to hide the host, few enough to stop soon


def train(
    config: ConfigDict, workdir: str | os.PathLike, dataset: data.Dataset | None = None, hooks: Iterable[Hook] = ()
) -> int:
    """Trains to config.train_kimg, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: as `jaxgan.default_config()` or `jaxgan.config("cifar")` returns it; it is copied, not changed.
      workdir: a local directory, made if need be; the run lives there. Compiled programs are kept in the user's cache,
        or where JAX_COMPILATION_CACHE_DIR says.
      dataset: images to train on in place of those that config.data names, a `jaxgan.ArrayDataset` or another object
        with the methods of `jaxgan.data.Dataset`. Their size counts, not config.data.image_size.
      hooks: functions `hook(step, state, metrics, generator) -> dict | None`, see jaxgan/training/hooks.py.

    Returns:
      The exit status: 0, or 143 / 130 / 129 after a SIGTERM / Ctrl-C / SIGHUP that was answered with a checkpoint.

    Raises:
      ConfigError: a setting cannot work; nothing was written.
      TrainingDiverged: a value is not finite any more; the last good checkpoint is intact.

    Example:
      config = jaxgan.config("cifar")
      config.train_kimg = 100.0
      jaxgan.train(config, "runs/mine", jaxgan.ArrayDataset(images))  # images: uint8 [N, 32, 32, 3]
    """
    began = time.perf_counter()
    workdir = as_path(workdir, "workdir", local=True)
    require_settings(config)
    require_devices(config.cpu_devices)
    hooks, config = own_hooks(hooks), config.copy_and_resolve_references()
    make_paths_absolute(config)
    directory, primary = checkpoint_directory(config, workdir), is_primary_process()
    keep_compiled()
    console = Progress(active=primary)
    console.note("opening the data ...")  # which some sets are decoded or drawn for
    dataset, held_out, spec = open_data(config, dataset)
    recipe, devices = recipe_from_config(config, spec), Devices(config.parallel)
    recipe = divide(recipe, config.accumulate, len(devices.devices), device_bytes(jax.local_devices()[0]))
    evaluator = make_evaluator(config, dataset, recipe.images_at_once(len(devices.devices)))
    if evaluator.metrics:  # what they need of labels, and the sizes of images
        evaluator.check(Generator(recipe.generator, {}, z_dim=recipe.z_dim))

    start = None if require_checkpoints(workdir, directory, config) else read_start(config, recipe)
    places = {"workdir": workdir, "config.checkpoint.dir": directory}
    make_directories(places)
    with (
        sole_user(places if primary else {}),
        open_checkpoints(config, directory) as checkpoints,
        contextlib.closing(console),
    ):
        mirror = Mirror(workdir, directory, lambda line: console.note(f"warning: {line}"), active=primary)
        mirror.pull()
        rollbacks, saved, changed = None, checkpoints.restore_run(), []
        if saved:
            changed = compare_with_saved(config, spec, saved)
        else:
            require_checkpoints(workdir, directory, config)  # a mirror may have brought the log of some
        print_start(console, config, recipe, spec, workdir, changed, getattr(dataset, "facts", {}), start)
        while True:
            with console.working("restoring the state" if checkpoints.latest_step() else "initialising the nets"):
                state = restore_or_init(checkpoints, recipe, jax.random.key(config.seed), start)
            step, total = int(state.step), steps(config, config.train_kimg)
            right = f"must divide step {step}, where the run resumes"
            good = step % config.steps_per_dispatch == 0
            require(good, "config.steps_per_dispatch", config.steps_per_dispatch, right)
            saved = checkpoints.restore_run() or {"rollbacks": 0, "log": (0, 0)}
            rollbacks = saved["rollbacks"] if rollbacks is None else rollbacks
            log = open_log(console, config, spec, workdir, step, saved)
            before = [line["perf/seconds"] for line in log.history.lines() if "perf/seconds" in line]
            seconds = max(before, default=0.0) + time.perf_counter() - began
            speed = Throughput(total * recipe.images_per_step, seconds)
            mirror.push(step)  # which removes what is there of later steps
            parts = dict(log=log, console=console, speed=speed, mirror=mirror, rollbacks=rollbacks)
            run = Run(config, recipe, spec, workdir, total, devices, checkpoints, **parts)
            called = all_hooks(run, evaluator, dataset, held_out, hooks)
            caller = HookCaller(run, called, step, partial(draw_first, run, dataset))
            with closing(log, console):
                print_resume(run, step)
                try:
                    return loop(run, devices.replicate(state), step, dataset, caller)
                except TrainingDiverged as error:
                    if config.on_divergence != "rollback" or rollbacks == config.max_rollbacks:
                        raise
                    checkpoints.wait()
                    began = time.perf_counter()
                    rollbacks += 1
                    console.note(f"{error.symptom}: rollback {rollbacks} of {config.max_rollbacks} to step {run.saved}")


@contextlib.contextmanager
def closing(log: MetricsLog, console: Progress):
    """Closes a log in the end; where the disk does not take the rest of it, a warning says so."""
    try:
        yield
    finally:
        try:
            log.close()
        except OSError as error:
            console.note(f"warning: the log lacks its end: {summary(error)}")


def open_data(config, dataset) -> tuple[data.Dataset, data.Dataset | None, data.DataSpec]:
    """Returns the images to train on, held-out ones or None, and what they are; `config.data` names them then.

    Args:
      dataset: a user's own, or None: those that `config.data` names, which are prepared once all settings are checked.
    """
    spec = held_out = None
    if dataset is not None:
        spec = data.DataSpec.from_dataset(dataset)
        config.data.name, config.data.image_size = "custom", spec.image_size
    else:
        data.check_source(config.data, config.model.conditional)
    recipe = recipe_from_config(config, spec)
    check(config, recipe, jax.device_count())  # before any data is prepared
    check_memory(recipe, jax.local_devices())
    if dataset is None:
        dataset, held_out = data.load(config.data), data.load_held_out(config.data)
        spec = data.DataSpec.from_dataset(dataset)
    right = f"must be at most the number of images, {len(dataset)}"
    require(config.batch_size <= len(dataset), "config.batch_size", config.batch_size, right)
    return dataset, held_out, spec


def loop(run: Run, state: TrainState, step: int, dataset: data.Dataset, call_hooks: HookCaller) -> int:
    """Trains from `step` to the end of the run or to a signal; returns the exit status."""
    dispatch, metrics = run.config.steps_per_dispatch, {}
    update = parallelize(run.recipe, run.devices)
    options = dict(seed=run.config.seed, first_step=step, last_step=run.total_steps, steps_per_dispatch=dispatch)
    batches = data.Batches(dataset, run.recipe, run.devices, **options)
    pending = collections.deque()
    with Interrupt(run.console.note) as interrupt, contextlib.closing(batches):
        try:
            call_hooks.resume(step, state, interrupt.leaving)
            ended = has_stopped_improving(run, step)
            while step < run.total_steps and not ended:
                if must_stop(interrupt, run.checkpoints, step, dispatch):
                    raise StopRequested
                with run.speed.waiting(), interrupt.leaving():
                    batch = next(batches)
                if run.speed.started:
                    state, metrics = update(state, batch, run.key)
                else:
                    with interrupt.held_by("the compilation"), run.console.working("compiling the training step"):
                        update.compile(state, batch, run.key)
                        state, metrics = update(state, batch, run.key)
                        jax.block_until_ready(metrics)  # several processes compile in the first call
                step += dispatch
                if not run.speed.started:
                    run.speed.start(step * run.recipe.images_per_step)
                pending.append(metrics)
                if len(pending) > IN_FLIGHT:
                    jax.block_until_ready(pending.popleft())
                call_hooks(step, state, metrics, interrupt.leaving)
                ended = has_stopped_improving(run, step)
            if ended and metrics and step < run.total_steps:
                call_hooks.end(step, state, metrics, interrupt.leaving)
        except StopRequested:
            return save_and_exit(interrupt.status or 128 + signal.SIGTERM, run, step, state, metrics, call_hooks)
        run.checkpoints.wait()
    call_hooks.finish(step, partial(await_curves, run), partial(write_report, run, status="finished"))
    print_summary(run, step)
    return 0


def has_stopped_improving(run: Run, step: int) -> bool:
    """Returns whether the best score is longer ago than config.stop allows, the same on all processes."""
    config = run.config
    patience, metric = 1e3 * config.stop.after_kimg_without_improvement, config.checkpoint.best_metric
    if not patience or step % steps(config, config.eval.every_kimg):
        return False
    low_high = run.log.history.best.get(metric)
    since = 1e3 * low_high[higher_is_better(metric)][1] if low_high else math.inf
    ended = broadcast({"ended": float(step * run.recipe.images_per_step - since >= patience)})["ended"] > 0
    if ended:
        run.console.note(f"{metric} was best at {since / 1e3:,.1f} kimg: the run ends here (config.stop)")
    return ended


def check(config, recipe: Recipe, num_devices: int) -> None:
    """Raises a ConfigError for the first setting of the loop that cannot work; those of the step are in the recipe."""
    flat = flatten(config)
    require(config.parallel in ("pmap", "shard_map"), "config.parallel", config.parallel, "choose pmap or shard_map")
    for key in ("cpu_devices", "steps_per_dispatch", "sample.grid", "checkpoint.keep_last"):
        require(flat[key] > 0, f"config.{key}", flat[key], "must be above 0")
    for key, value in flat.items():
        if "_kimg" in key and isinstance(value, float):
            require(0 <= value < float("inf"), f"config.{key}", value, "must be a finite number, 0 or above")
    require(0 <= config.seed < 2**31, "config.seed", config.seed, "must be in 0 .. 2147483647")
    total = steps(config, config.train_kimg) * recipe.real_batches_per_step
    right = f"makes {total:.3g} batches (config.steps_per_dispatch={config.steps_per_dispatch}); at most 2^31 - 1 are"
    require(total < 2**31, "config.train_kimg", config.train_kimg, right)
    right = f"must be a multiple of the {num_devices} devices"
    require(config.batch_size % num_devices == 0, "config.batch_size", config.batch_size, right)
    divide(recipe, config.accumulate or 1, num_devices)  # or an error
    right = "choose stop or rollback"
    require(config.on_divergence in ("stop", "rollback"), "config.on_divergence", config.on_divergence, right)
    require(config.max_rollbacks >= 0, "config.max_rollbacks", config.max_rollbacks, "must be 0 or above")
    patience = config.stop.after_kimg_without_improvement
    scored = config.checkpoint.best_metric and config.eval.every_kimg
    right = "needs config.checkpoint.best_metric and config.eval.every_kimg"
    require(not patience or scored, "config.stop.after_kimg_without_improvement", patience, right)
    pixels = config.sample.grid**2 * math.prod(recipe.image_shape)
    require_memory("config.sample.grid", config.sample.grid, pixels, "the images")
    # Two batches are made ahead, one is on its way to the devices, and one is there.
    data.require_memory_of_batches(config.steps_per_dispatch, recipe, 4)
    check_trackers(config.log.trackers)
    for net, penalties, steps_of_net in (("D", recipe.penalties_d, recipe.d_steps), ("G", recipe.penalties_g, 1)):
        between = steps(config, config.log.every_kimg) * steps_of_net
        for name, penalty in penalties.items():
            # A line is of the last dispatch, and most lines would fall on steps without the penalty.
            shortest = penalty.interval * recipe.images_per_step * config.steps_per_dispatch / 1e3
            right = f"must divide the {between} {net} steps between two log lines"
            right += f"; config.log.every_kimg={shortest:g} or a multiple would do"
            require(between % penalty.interval == 0, f"config.penalty.{name}.interval", penalty.interval, right)
            penalty.require_parts(recipe.images_at_once(num_devices), f"config.penalty.{name}.fraction")
    check_metrics(
        config.eval.metrics,
        evaluation_protocol(config),
        evaluation_setting,
        data_name=config.data.name,
        image_shape=recipe.image_shape,
        conditional=recipe.conditional,
        best_metric=config.checkpoint.best_metric,
    )


def evaluation_protocol(config) -> Protocol:
    """Returns what the scores of a run in training depend on."""
    return Protocol(num=config.eval.num_samples, num_reals=config.eval.num_reals, split=config.data.split)


def evaluation_setting(name: str) -> str:
    """Returns the setting of what `jaxgan.evaluation` calls `name`."""
    known = {"num": "eval.num_samples", "best_metric": "checkpoint.best_metric", "reals": "data.name"}
    return f"config.{known.get(name, f'eval.{name}')}"


def make_evaluator(config, dataset: data.Dataset, batch_size: int) -> Evaluator:
    """Returns what scores the run's samples against its training images, so many at a time on each device."""
    return Evaluator(
        config.eval.metrics,
        evaluation_protocol(config),
        dataset,
        reals_name=config.data.name,
        weights={"inception": config.eval.inception_weights, "dinov2": config.eval.dinov2_weights},
        batch_size=batch_size,
        setting=evaluation_setting,
        show_progress=is_primary_process(),
    )


def open_checkpoints(config, directory) -> Checkpoints:
    """Returns the checkpoints of a run, which need not exist yet."""
    section, best = config.checkpoint, config.checkpoint.best_metric
    try:
        return Checkpoints(
            directory,
            keep_last=section.keep_last,
            keep_every_steps=steps(config, section.keep_every_kimg),
            best_metric=best,
            higher_is_better=bool(best) and higher_is_better(best),
        )
    except CheckpointError as error:
        raise ConfigError(f"config.checkpoint.dir={str(directory)!r}: {error}") from error


def open_log(console: Progress, config, spec: data.DataSpec, workdir: pathlib.Path, step: int, saved) -> MetricsLog:
    """Returns the log of a run that goes on at `step`, and writes what the run is: config.json and data.json.

    Args:
      saved: what the checkpoint says of the run.
    """
    active, mark = is_primary_process(), Mark(*saved["log"])
    options = dict(trackers=config.log.trackers, warn=console.note)
    log = MetricsLog(workdir, resume_step=step, active=active, mark=mark, **options)
    if active:
        note_damage(console, {workdir / "config.json": "seed", workdir / "data.json": "image_size"})
        log.config(config.to_dict())
        atomic_write(workdir / "config.json", to_json(config).encode())
        atomic_write(workdir / "data.json", json.dumps(spec._asdict(), indent=2).encode())
    return log


def note_damage(console: Progress, files: dict[pathlib.Path, str]) -> None:
    """Says which of these files, {file: a key that it holds}, are damaged and so are written anew."""
    for file, key in files.items():
        try:
            if file.exists():
                read_json(file, key, advice="it is written anew")
        except RunFailed as error:
            console.note(f"warning: {error}")


def must_stop(interrupt: Interrupt, checkpoints: Checkpoints, step: int, dispatch: int) -> bool:
    """Returns whether a signal came, the same answer on all processes."""
    if jax.process_count() == 1:
        return bool(interrupt.status)
    # JAX agrees on a single step, so it must be asked about each one of the last dispatch.
    return any([checkpoints.reached_preemption(s) for s in range(max(step - dispatch + 1, 0), step + 1)])


def save_and_exit(status: int, run: Run, step: int, state: TrainState, metrics: dict, call_hooks: HookCaller) -> int:
    """Saves after a signal, so that the next start goes on from here; returns the exit status."""
    if step != run.saved:
        save_checkpoint(run, step, state, call_hooks.means(step, metrics))
    run.checkpoints.wait()
    name = signal.Signals(status - 128).name
    call_hooks.finish(step, partial(await_curves, run), partial(write_report, run, status=f"stopped by {name}"))
    done = f"saved step {step}" if step else "no step was done yet"
    run.console.note(f"stopped by {name}; {done}, run again to go on")
    return status
