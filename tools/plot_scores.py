"""Draws a score of several runs over the minutes that they took, everything included: docs/speedrun.svg.

python tools/plot_scores.py fd_cifar docs/speedrun.svg LABEL=WORKDIR [LABEL=WORKDIR ...]
"""

import sys

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jaxgan.training.log import read_metrics


def scores_by_minute(workdir: str, metric: str) -> np.ndarray:
    """Returns [N, 2], minutes and scores of a run, both as its log has them."""
    records = read_metrics(f"{workdir}/metrics.jsonl")
    seconds = {record["kimg"]: record["perf/seconds"] for record in records if "perf/seconds" in record}
    kimg = sorted(seconds)
    scored = [record for record in records if f"eval/{metric}" in record]
    minutes = np.interp([record["kimg"] for record in scored], kimg, [seconds[at] / 60 for at in kimg])
    return np.column_stack([minutes, [record[f"eval/{metric}"] for record in scored]])


def main(metric: str, file: str, *runs: str):
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    axis = figure.subplots()
    for run in runs:
        label, _, workdir = run.partition("=")
        minutes, scores = scores_by_minute(workdir, metric).T
        axis.plot(minutes, scores, marker="o", markersize=3.5, label=label)
        axis.annotate(f"{scores[-1]:.1f}", (minutes[-1], scores[-1]), (5, 0), textcoords="offset points", va="center")
    axis.set_yscale("log")
    ticks = [3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100]
    axis.set_yticks(ticks, map(str, ticks))
    axis.minorticks_off()
    axis.set_xlim(0)
    axis.set_xlabel("minutes on two CPU cores")
    axis.set_ylabel(f"{metric}, lower is better")
    axis.grid(color="#E4E4E4")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
