"""What a run prints at its start, where it goes on, and at its end."""

from jaxgan.core.processes import describe_devices
from jaxgan.core.shapes import size_in_words
from jaxgan.core.shell import command_line, from_here
from jaxgan.core.words import counted
from jaxgan.data import DataSpec
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import parameter_counts
from jaxgan.settings import steps
from jaxgan.training.console import Progress
from jaxgan.training.run import Run
from jaxgan.training.start import Start


def print_start(
    console: Progress,
    config,
    recipe: Recipe,
    spec: DataSpec,
    workdir,
    changed: list,
    facts: dict,
    start: Start | None,
) -> None:
    """Prints what is trained on what, what it begins with, and what changed since the checkpoint.

    Args:
      changed: what changed since the checkpoint, in lines.
      facts: what is known of the images.
      start: the weights that the run begins with; None where it begins from nothing, or goes on.
    """
    parameters = parameter_counts(recipe)
    console.header(
        f"{config.model.name}, {config.loss} loss, on {config.data.name}",
        {
            "generator": f"{parameters[0]:,} parameters",
            "discriminator": f"{parameters[1]:,} parameters",
            "images": f"{spec.num_images:,} of {size_in_words(spec.image_size)}",
            "devices": f"{describe_devices()}, {config.parallel}, {config.dtype}",
            "batch": f"{config.batch_size}"
            + f" in {recipe.accumulate} parts" * (recipe.accumulate > 1)
            + f", {counted(config.d_steps, 'D step')} for each G step",
            "length": f"{steps(config, config.train_kimg):,} steps, {config.train_kimg:,g} kimg",
            "workdir": workdir,
            **(start.facts if start else {}),
        },
    )
    if facts:
        console.header(f"the images in {config.data.dir}", facts)
    for line in changed:
        console.note(line)


def print_resume(run: Run, step: int) -> None:
    """Prints where a run goes on, and whether its log is what it wrote."""
    if step:
        run.console.note(f"resumed from step {step}")
        if not run.log.is_as_marked:
            file = run.workdir / "metrics.jsonl"
            run.console.note(f"warning: {file} is not what this run wrote: lines are missing or changed")


def print_summary(run: Run, step: int) -> None:
    """Prints the last scores, and where to find everything."""
    files = {
        "images": run.grid_file(step),
        "report": run.workdir / "report.html",
        "metrics": run.workdir / "metrics.jsonl",
        "checkpoint": run.checkpoints.directory / str(step),
    }
    facts = {k: f"{v:.4g}" for k, v in run.log.history.last_scores().items()}
    facts |= {name: file for name, file in files.items() if file.exists()}  # a by-product may have failed
    facts["more images"] = command_line("sample", f"--workdir={from_here(run.workdir)}", "--out=more.png")
    run.console.close()  # the last progress line stays above
    run.console.header(f"trained to step {step:,}", facts)
