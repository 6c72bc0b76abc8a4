"""Explores a trained generator in a browser: jaxgan explore RUN_OR_EXPORT [--port=7860]

Seeds, classes and mixtures of them, truncation, walks between two seeds, mixtures of styles, directions, pictures of
your own, and the nearest training images. The page needs no network and is for this machine alone; with --host=0.0.0.0
for everyone who has the printed address, which contains a token. Ctrl-C ends it. It needs the extra `explore`:
pip install 'jaxgan[explore]'.
"""

from absl import flags

from jaxgan.commands import app

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "Run, export, checkpoint or hf://owner/name, also without --workdir=.", FLAGS)
flags.DEFINE_string("step", "newest", "A number, newest (undamaged) or best (by config.checkpoint.best_metric).", FLAGS)
flags.DEFINE_integer(
    "port", None, "Of the page; the first from 7860 on that is free if not given.", 1, 65535, flag_values=FLAGS
)
flags.DEFINE_string("host", None, "Address that others reach the page at; 0.0.0.0: all of this machine.", FLAGS)


@app.command(FLAGS, required=["workdir"], positional=["workdir"])
def main(flags) -> None:
    print(f"loading {flags.workdir} ...", flush=True)
    from jaxgan.sharing.server import explore

    with app.naming_flags(FLAGS, path="workdir"):
        explore(flags.workdir, flags.step, flags.port, flags.host)
