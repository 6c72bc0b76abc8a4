"""Draws a score of several runs over the minutes that they took, as docs/speedrun.svg shows it.

    python tools/plot_scores.py --out=docs/speedrun.svg 'laptop=runs/laptop' 'DCGAN=runs/dcgan' [--score=eval/fd_cifar]

Each run is a name and a workdir. Its minutes are those of its log: from the command on, compilation, samples and scores
included. A run that was resumed has lost its first start, and is no run to compare.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxgan.training.log import read_metrics

INK, RULE = "#333333", "#E4E4E4"
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
    axis.set_yscale("log")
    for (name, points), colour in zip(curves.items(), COLOURS):
        axis.plot(*points.T, color=colour, marker="o", markersize=3.5, linewidth=1.6)
        text = f"{name}, {points[-1, 1]:.1f}"
        axis.annotate(text, points[-1], (6, 0), textcoords="offset points", va="center", color=colour, size=9)
    axis.set_xlim(0, 1.25 * max(points[-1, 0] for points in curves.values()))
    values = np.concatenate([points[:, 1] for points in curves.values()])
    ticks = [t for t in (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200) if values.min() / 1.2 < t]
    ticks = [t for t in ticks if t < 1.2 * values.max()]
    axis.set_yticks(ticks, map(str, ticks))
    axis.minorticks_off()
    axis.grid(color=RULE, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(labelsize=8.5, color="#999999", labelcolor=INK, length=3)
    axis.set_xlabel("minutes of two CPU cores", size=9, color=INK)
    axis.set_title(label, loc="left", size=9.5, color=INK)
    return figure


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", metavar="NAME=WORKDIR")
    parser.add_argument("--out", required=True, help="a file that matplotlib can write, such as .svg")
    parser.add_argument("--score", default="eval/fd_cifar")
    parser.add_argument("--label", default="fd_cifar of 5,000 samples (lower is better)")
    args = parser.parse_args()
    runs = [run.partition("=")[::2] for run in args.runs]
    curves = {name: minutes_and_scores(workdir, args.score) for name, workdir in runs}
    draw(curves, args.label).savefig(args.out, metadata={"Date": None} if args.out.endswith(".svg") else None)


if __name__ == "__main__":
    main()
