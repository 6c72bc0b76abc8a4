"""The standard hooks: saving, evaluation, health, samples, the log line, and keeping the past; see hooks.py."""

import json
import platform
from functools import partial

import jax
import numpy as np

from jaxgan import __version__
from jaxgan.core.files import atomic_write
from jaxgan.core.integrity import all_finite
from jaxgan.core.parallel import assert_replicated, broadcast, first_replica, is_primary_process
from jaxgan.core.processes import describe_devices
from jaxgan.data import Dataset, evenly_spaced, read, subset, to_float
from jaxgan.evaluation import Evaluator
from jaxgan.gan.nets import split_answer
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import TrainState, parameter_counts
from jaxgan.planning.size import operations_per_image
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.pictures import save_png, show_grid
from jaxgan.training import plots
from jaxgan.training.health import HealthMonitor, overfitting_gap, pairwise_distance
from jaxgan.training.hooks import Hook, cadences, every
from jaxgan.training.report import page
from jaxgan.training.report.contents import ABOUT, HELD_OUT, read_held_out
from jaxgan.training.resume import checkpoint_items, note_checkpoints, save_cadences
from jaxgan.training.run import Run, TrainingDiverged


def all_hooks(
    run: Run, evaluator: Evaluator, dataset: Dataset, held_out: Dataset | None, own: list[Hook]
) -> list[Hook]:
    """Returns the standard hooks with the user's own between them, in the order in which they are called.

    Args:
      dataset: real images that D is trained on, held_out: others or None.
      own: those of the user, as `own_hooks` returns them.
    """
    config = run.config
    looked_at = subset(dataset), held_out and subset(held_out)
    scored = [partial(score_held_out, run, evaluator, held_out)] if held_out and evaluator.metrics else []
    # What is measured is logged at once.
    log_kimg = (config.log.every_kimg, config.eval.every_kimg, config.health.every_kimg, *cadences(own))
    save_kimg = save_cadences(config)
    return [
        every(save_kimg, partial(save_checkpoint, run)),
        every(config.eval.every_kimg, partial(evaluate, run, evaluator)),
        *(every(config.eval.every_kimg, hook) for hook in scored),
        every(config.health.every_kimg, partial(check_health, run, HealthMonitor(), *looked_at)),
        *(hook if hasattr(hook, "every_kimg") else every(log_kimg, hook) for hook in own),
        every(config.sample.every_kimg, partial(draw_samples, run)),
        every(config.sample.every_kimg, partial(draw_curves, run)),
        every(log_kimg, partial(write_line, run)),
        every(config.sample.every_kimg, partial(write_report, run)),
        every((*log_kimg, *save_kimg), partial(keep_past, run)),
    ]


def evaluate(run: Run, evaluator: Evaluator, step, state, metrics, generator) -> dict[str, float]:
    """Scores the EMA generator; all processes get the same scores, as they must agree on the best checkpoint."""
    failed = {}
    scores = broadcast({f"eval/{name}": score for name, score in evaluator.evaluate(generator, failed).items()})
    for name, error in failed.items():
        run.warn(f"the metric {name}", step, error)
    if scores and step == run.saved:
        run.checkpoints.rate(step, scores)
    return scores


def score_held_out(run: Run, evaluator: Evaluator, held_out: Dataset, step, state, metrics, generator) -> None:
    """Scores held-out real images once a run, for the curves and the report: what samples can reach.

    All processes share the work, and the primary one says whether it is done.
    """
    protocol = evaluator.describe()
    of = {"images": min(len(held_out), protocol["n_fake"]), "split": run.config.data.eval_split}
    protocol["held_out"] = of | {"metrics": list(evaluator.metrics)}
    known = is_primary_process() and read_held_out(run.workdir).protocol == protocol
    if broadcast({"known": float(known)})["known"]:
        return
    failed = {}
    scores = evaluator.evaluate_reals(held_out, generator.num_classes > 0, failed)
    for name, error in failed.items():
        run.warn(f"the metric {name} of held-out reals", step, error)
    scores = {f"eval/{name}": score for name, score in scores.items() if np.isfinite(score)}
    if is_primary_process():
        content = {"protocol": protocol, "scores": scores}
        atomic_write(run.workdir / HELD_OUT, json.dumps(content, indent=2).encode())


def check_health(run: Run, monitor: HealthMonitor, reals, held_out, step, state, metrics, generator):
    """Measures the health of the run and prints warnings; see jaxgan/training/health.py."""
    if not is_primary_process():
        return None
    values = health_metrics(run.recipe, state, generator, reals, held_out, run.images_at_once)
    for warning in monitor.check([*run.log.history.lines(), metrics | values]):
        run.console.note(f"warning: {warning}")
        run.log.warning(step, metrics["kimg"], str(warning))
    return values


def _logits(discriminator, variables: dict, images, labels):
    return split_answer(discriminator.apply(variables, to_float(images), labels, train=False))[0]


_jitted_logits = jax.jit(_logits, static_argnums=0)


def health_metrics(
    recipe: Recipe,
    state: TrainState,
    generator: Generator,
    reals: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    chunk: int = 64,
) -> dict[str, float]:
    """Measures the diversity of samples and the overfitting of D.

    Args:
      state: its discriminator is asked.
      generator: gives as many samples of seed 0 as there are reals.
      reals: images uint8 [N, H, W, C] that D was trained on, and their labels int32 [N].
      held_out: the same of images that D has not seen.
      chunk: images in one call of D; a last incomplete chunk is left out.

    Returns:
      "health/variety", the pairwise distance of samples over that of reals, and with held-out images
      "health/overfitting", see `overfitting_gap`. A value that cannot be told yet is left out.
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
        values["health/overfitting"] = overfitting_gap(logits(*reals), logits(*held_out), logits(fakes, labels))
    return {name: value for name, value in values.items() if np.isfinite(value)}


def draw_first(run: Run, dataset: Dataset, step, state, metrics, generator) -> None:
    """Draws what the run begins with: a grid of real images, and the one that all later grids compare with."""
    if is_primary_process():
        rows = run.config.sample.grid
        reals = show_grid(real_grid(dataset, rows, generator.num_classes), rows, *_labelling(run, generator))
        save_png(run.workdir / "samples" / "reals.png", reals)
        with run.console.working("drawing the first samples"):
            draw_grid(run, step, generator)
            write_report(run)


def draw_samples(run: Run, step, state, metrics, generator) -> None:
    """Draws a grid of fixed latents."""
    if is_primary_process():
        draw_grid(run, step, generator)


def draw_curves(run: Run, step, state, metrics, generator) -> None:
    """Draws the curves so far, while the run goes on."""
    if is_primary_process():
        lines = [*run.log.history.lines(even=True), {"step": step} | metrics]
        config = run.config
        title = f"{run.workdir.name}: {config.model.name}, {config.loss} loss, on {config.data.name}"
        options = dict(title=title, held_out=read_held_out(run.workdir))
        run.aside(partial(plots.curves, lines, run.workdir / "curves.png", **options))


def await_curves(run: Run, step, state, metrics, generator) -> None:
    """Waits until the last curves are drawn."""
    run.aside.wait()


def draw_grid(run: Run, step: int, generator: Generator) -> None:
    """Draws a grid of fixed latents, a class in each column."""
    rows = run.config.sample.grid
    labels = generator.class_columns(rows, rows) if generator.num_classes else None
    picture = show_grid(generator.sample(rows * rows, labels=labels), rows, *_labelling(run, generator))
    save_png(run.grid_file(step), picture)
    run.log.images(step, "samples", picture)


def _labelling(run: Run, generator: Generator) -> tuple[str, tuple[str, ...]]:
    """Returns the name of the data set and the titles of a grid's columns."""
    return run.config.data.name, generator.column_titles(run.config.sample.grid) if generator.num_classes else ()


def real_grid(dataset: Dataset, rows: int, num_classes: int) -> np.ndarray:
    """Returns real images for a grid like that of samples, uint8 [rows * rows, H, W, C].

    Args:
      num_classes: of the generator: each column is a class, black where the set has none of it; 0: from all over the
        set.
    """
    if not num_classes:
        return read(dataset, np.resize(evenly_spaced(len(dataset), rows * rows), rows * rows))[0]
    members = [np.flatnonzero(dataset.labels == column % num_classes) for column in range(rows)]
    images, _ = read(dataset, np.stack([np.resize(found, rows) for found in members], axis=1).ravel())
    return images * np.tile([len(found) > 0 for found in members], rows)[:, None, None, None]


def write_line(run: Run, step, state, metrics, generator) -> dict[str, float]:
    """Writes a line of the log and shows one on the console."""
    speed = run.speed.tick(1e3 * metrics["kimg"])
    measured = {"perf/images_per_second": speed.images_per_second, "perf/data_wait": speed.data_wait}
    measured["perf/seconds"] = run.speed.seconds
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


def write_about(run: Run, step: int) -> None:
    """Writes what the run is made of and runs on, for its report.

    The operations are counted with the first report after a step: to trace the step for them takes seconds.
    """
    about = dict(run.about)
    if not about:
        about |= dict(zip(("generator", "discriminator"), parameter_counts(run.recipe)))
        about["hardware"] = describe_devices()
        about["software"] = f"jaxgan {__version__}, JAX {jax.__version__}, Python {platform.python_version()}"
    if step and "flops_per_image" not in about:
        about["flops_per_image"] = operations_per_image(run.recipe)
    if about != run.about:
        run.about.update(about)
        atomic_write(run.workdir / ABOUT, json.dumps(about, indent=2).encode())


def write_report(run: Run, step=0, state=None, metrics=None, generator=None, status: str = "running") -> None:
    """Writes report.html, with the lines and pictures so far."""
    if is_primary_process():
        write_about(run, step)
        page.write(run.workdir / "report.html", [run.workdir], run.log.history, status=status)


def save_checkpoint(run: Run, step, state, metrics, generator=None) -> None:
    """Saves a state that is finite and the same on all devices; never another one."""
    if step == run.saved:
        return
    copy = jax.device_get(first_replica(state))  # the only one from an accelerator to the host
    if not all_finite(copy):
        raise TrainingDiverged("the state is not finite", run.saved, step, run)
    assert_replicated(state)
    description = {
        "config": run.config.to_dict(),
        "data": run.data._asdict(),
        "rollbacks": run.rollbacks,
        "log": run.log.mark,
    }
    run.checkpoints.save(step, checkpoint_items(copy), description, metrics)


def keep_past(run: Run, step, state=None, metrics=None, generator=None) -> None:
    """Notes that there are checkpoints, and brings the log to the disk and what came with the newest one to them."""
    if is_primary_process():
        run.log.flush()
        note_checkpoints(run.workdir, run.checkpoints.directory)
        if step == run.saved:
            run.mirror.push(step)
