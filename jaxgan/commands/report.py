"""Shows a run, or compares several, in one HTML file: jaxgan report RUN [RUN ...] [--out=FILE.html]

The file holds all of it, pictures too, and needs no network. A run in training writes its own, WORKDIR/report.html.
"""

from absl import flags

from jaxgan.commands import app
from jaxgan.core.errors import require
from jaxgan.core.files import as_path
from jaxgan.core.words import counted

FLAGS = flags.FlagValues()
flags.DEFINE_list("runs", None, "Workdirs, also without --runs=.", FLAGS)
flags.DEFINE_string("out", "", "FILE.html; RUN/report.html if one run is given.", FLAGS)


@app.command(FLAGS, required=["runs"], positional=["runs"])
def main(flags) -> None:
    from jaxgan.training.report import page

    one = len(flags.runs) == 1
    require(flags.out.endswith(".html") or (one and not flags.out), "--out", flags.out, "name a FILE.html")
    runs = [as_path(run, "RUN", local=True) for run in flags.runs]
    out = as_path(flags.out or runs[0] / "report.html", "--out", local=True, new=True)
    page.write(out, runs)
    print(f"{counted(len(runs), 'run')} in {out}, {out.stat().st_size / 1e6:.1f} MB")
