"""Turns a run into a model that others can use: jaxgan export RUN --out=DIR [--push=owner/name]

DIR gets generator.safetensors (the average over the weights) and config.json, which jaxgan.load(DIR) reads; a program
that runs with JAX alone, generator.stablehlo; a grid; README.md, a model card with all scores and their protocols; and
app.py with requirements.txt, the page of `jaxgan explore` as a Space.
"""

from absl import flags

from jaxgan.commands import app

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "The run, also without --workdir=.", FLAGS)
flags.DEFINE_string("out", None, "The directory to make.", FLAGS)
flags.DEFINE_string("step", "newest", "A number, newest (undamaged) or best (by config.checkpoint.best_metric).", FLAGS)
flags.DEFINE_string("dtype", "float32", "Of the weights' file: float32, or bfloat16, half as large.", FLAGS)
flags.DEFINE_string("push", "", "owner/name, or spaces/owner/name: also push it to the Hugging Face Hub.", FLAGS)


@app.command(FLAGS, required=["workdir", "out"], positional=["workdir"])
def main(flags) -> None:
    from jaxgan.sharing.export import export

    with app.naming_flags(FLAGS, path="workdir", RUN="workdir"):
        directory = export(flags.workdir, flags.out, step=flags.step, dtype=flags.dtype, push=flags.push)
    size = sum(path.stat().st_size for path in directory.iterdir()) / 1e6
    print(f"{directory}: {size:.1f} MB" + (f", and https://huggingface.co/{flags.push}" if flags.push else ""))
