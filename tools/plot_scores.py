"""Draws a score of several runs over the minutes that they took, as docs/speedrun.svg shows it.

    python tools/plot_scores.py --out=docs/speedrun.svg 'laptop=runs/laptop' 'DCGAN=runs/dcgan' [--score=eval/fd_cifar]

Each run is a name and a workdir. Its minutes are those of its log: over all starts, from the opening of the data on,
compilation, samples and scores included.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxgan.training.log import read_metrics
from jaxgan.training.panels import INK
from jaxgan.training.plots import dress, scale_by_log

COLOURS = ("#0B6E99", "#C05621", "#6B46C1", "#2F855A")


def minutes_and_scores(workdir: str, score: str) -> np.ndarray:
    """Returns [n, 2], when each score was known, in minutes, and its value."""
    records = read_metrics(Path(workdir) / "metrics.jsonl")
    timed = np.array([(r["kimg"], r["perf/seconds"]) for r in records if "perf/seconds" in r])
    scored = [(r["kimg"], r[score]) for r in records if score in r]
    return np.array([(np.interp(kimg, *timed.T) / 60, value) for kimg, value in scored])


def draw(curves: dict[str, np.ndarray], label: str) -> Figure:
    """Returns a figure with a line for each of `curves`, {name: [n, 2]}, named at its end."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    dress(axis, label)
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        axis.plot(*points.T, color=colour, marker="o", markersize=3.5, linewidth=1.6)
        text = f"{name}, {points[-1, 1]:.1f}"
        axis.annotate(text, points[-1], (6, 0), textcoords="offset points", va="center", color=colour, size=9)
    minutes, values = np.concatenate(list(curves.values())).T
    axis.set_xlim(0, 1.25 * minutes.max())
    limits = 0.85 * values.min(), 1.15 * values.max()
    scale_by_log(axis, *limits)
    axis.set_ylim(limits)
    axis.set_xlabel("minutes of two CPU cores", size=9, color=INK)
    return figure


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", metavar="NAME=WORKDIR", help=f"{len(COLOURS)} at most")
    parser.add_argument("--out", required=True, help="a file that matplotlib can write, such as .svg")
    parser.add_argument("--score", default="eval/fd_cifar")
    parser.add_argument("--label", default="fd_cifar of 5,000 samples (lower is better)")
    args = parser.parse_args()
    runs = [run.partition("=")[::2] for run in args.runs]
    if len(runs) > len(COLOURS):
        parser.error(f"{len(runs)} runs: there are colours for {len(COLOURS)}")
    curves = {name: minutes_and_scores(workdir, args.score) for name, workdir in runs}
    if without := [name for name, points in curves.items() if not len(points)]:
        parser.error(f"{', '.join(without)}: no {args.score} in the log of the run")
    # The same runs make the same file; its words stay words.
    with matplotlib.rc_context({"svg.hashsalt": "jaxgan", "svg.fonttype": "none"}):
        draw(curves, args.label).savefig(args.out, metadata={"Date": None} if args.out.endswith(".svg") else None)


if __name__ == "__main__":
    main()
