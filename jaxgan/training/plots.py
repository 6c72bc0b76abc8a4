"""The curves of a run: records of metrics.jsonl in, a PNG out."""

import io
import math
import os
from dataclasses import dataclass, replace

import numpy as np

from jaxgan.core.files import atomic_write
from jaxgan.evaluation import METRICS

MAX_POINTS = 600  # a curve is thinned out to at most twice this: more than its panel has pixels

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#555555"  # colour-blind safe
PALETTE = (GREEN, PURPLE, BLUE, ORANGE, GREY)
INK, RULE = "#222222", "#E4E4E4"


@dataclass(frozen=True)
class _Panel:
    """One pair of axes; `series` is {metric name: (label, colour)}."""

    title: str
    series: dict[str, tuple[str, str]]
    log: bool = False  # logarithmic y axis
    smooth: bool = True  # False: few values, each of them worth a marker
    limits: tuple[float, float | None] | None = None  # of the y axis; None: those of the values
    bounds: tuple[float, float] = (-math.inf, math.inf)  # of the quantity: the y axis ends where it ends
    rules: tuple[float, ...] = ()  # thin horizontal lines to compare with


# By the beginning of a score's name.
_BOUNDS = {
    "modes": (0.0, 1000.0),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "coverage": (0.0, 1.0),
    "accuracy": (0.0, 1.0),
    "authpct": (0.0, 100.0),
    **dict.fromkeys(("fid", "fd_", "kl", "density"), (0.0, math.inf)),
}

_PANELS = (
    _Panel("Losses", {"loss/d": ("D", BLUE), "loss/g": ("G", ORANGE)}),
    _Panel("Logits of D", {"logits/real": ("real", GREEN), "logits/fake": ("fake", PURPLE)}, rules=(0.0,)),
    _Panel(
        "Accuracy of D",
        {"acc/real": ("real", GREEN), "acc/fake": ("fake", PURPLE)},
        limits=(-0.03, 1.03),
        rules=(0.5,),
    ),
    _Panel("Gradient norms", {"norm/grad_d": ("D", BLUE), "norm/grad_g": ("G", ORANGE)}, log=True),
    _Panel(
        "Health",
        {"health/variety": ("variety, best at 1", ORANGE), "health/overfit": ("over-fitting, best at 0", BLUE)},
        smooth=False,
        rules=(0.0, 1.0),
    ),
)
_STRENGTH = _Panel("Strength of the augmentation", {"ada/p": ("", PURPLE)}, bounds=(0.0, 1.0))
_RATES = _Panel("Learning rates", {"lr/d": ("D", BLUE), "lr/g": ("G", ORANGE)}, log=True)
_SPEED = _Panel("Images per second", {"perf/images_per_second": ("", GREY)}, limits=(0.0, None))


def curves(records: list[dict], path: str | os.PathLike, *, title: str) -> None:
    """Draws what `log.read_metrics` returns against kimg, as a PNG; without a known metric nothing is written.

    A panel each for losses, logits and accuracy of D, gradient norms, penalties, health, the strength of an adaptive
    augmentation, learning rates that change, every evaluation score (an arrow says which way is better) and images/s,
    as far as there is anything to show. Raw values faint, their moving average bold; the y axis leaves out the wildest
    1% of the raw values rather than flatten the rest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({name for record in records for name in record})
    penalties = [name for name in names if name.startswith("penalty/")]
    labels = {name: (name.removeprefix("penalty/"), PALETTE[i % len(PALETTE)]) for i, name in enumerate(penalties)}
    # The scores of single classes would bury all else.
    known = {key: higher for metric in METRICS.values() for key, higher in metric.keys.items()}
    evaluations = [_evaluation(name, known[name[5:]]) for name in names if name.removeprefix("eval/") in known]
    drawn = []
    for panel in (*_PANELS, _Panel("Penalties", labels, log=True), _STRENGTH, _RATES, *evaluations, _SPEED):
        points = {name: _points(records, name) for name in panel.series}
        points = {name: xy for name, xy in points.items() if xy.size}
        if panel is _RATES and all(np.ptp(xy[1]) == 0.0 for xy in points.values()):
            continue
        if panel.title == "Accuracy of D" and len(points) == 2 and np.array_equal(*points.values()):
            panel = replace(panel, title="Accuracy of D: reals above fakes", series={"acc/real": ("", GREEN)})
            del points["acc/fake"]  # a relativistic D has one accuracy
        if points:
            drawn.append((panel, points))
    if not drawn:
        return
    columns = min((3, 4), key=lambda columns: -len(drawn) % columns)  # the fewer empty places
    rows = -(-len(drawn) // columns)
    inches = np.array([4.2 * columns, 2.6 * rows + 0.3])
    figure = Figure(figsize=inches, dpi=110, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    left, right, bottom, top = np.array([0.62, 0.15, 0.5, 0.7]) / inches[[0, 0, 1, 1]]
    spacing = dict(left=left, right=1 - right, bottom=bottom, top=1 - top, wspace=0.24, hspace=0.42)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=spacing).flat
    end = max(record["kimg"] for record in records)
    for axis, (panel, points) in zip(axes, drawn, strict=False):
        _draw(axis, panel, points)
        axis.set_xlim(0, 1.02 * end)
    for axis in axes[len(drawn) :]:
        axis.set_visible(False)
    for axis in axes[max(len(drawn) - columns, 0) : len(drawn)]:  # the lowest of each column
        axis.set_xlabel("kimg (thousands of real images shown to D)", fontsize=8, color=INK)
    figure.text(left, 1 - 0.12 / inches[1], title, va="top", size=12, weight="bold", color=INK)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    atomic_write(path, buffer.getvalue())


def _evaluation(name: str, higher_is_better: bool | None) -> _Panel:
    """Returns the panel of a score "eval/..."."""
    key = name.removeprefix("eval/")
    arrow = {True: " \u2191", False: " \u2193", None: ""}[higher_is_better]
    bounds = next((bounds for start, bounds in _BOUNDS.items() if key.startswith(start)), (-math.inf, math.inf))
    return _Panel(f"Evaluation: {key}{arrow}", {name: ("", INK)}, smooth=False, bounds=bounds)


def _points(records: list[dict], name: str) -> np.ndarray:
    """Returns the finite values of a metric as [2, n]: kimg, value."""
    pairs = np.array([(record["kimg"], record[name]) for record in records if name in record])
    return pairs[np.isfinite(pairs[:, 1])].T if pairs.size else pairs


def _draw(axis, panel: _Panel, points: dict[str, np.ndarray]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_title(panel.title, loc="left", fontsize=9.5, color=INK)
    axis.grid(color=RULE, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(labelsize=8, color="#999999", labelcolor=INK, length=3)
    log = panel.log and any((values > 0).any() for _, values in points.values())
    for rule in panel.rules:
        axis.axhline(rule, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    shown = []  # what the y axis must hold
    for name, (kimg, values) in points.items():
        label, color = panel.series[name]
        thin = slice(None, None, -(-kimg.size // MAX_POINTS))
        if panel.smooth and kimg.size > 20:
            smooth = _moving_average(values, max(5, kimg.size // 40))
            axis.plot(kimg[thin], values[thin], color=color, alpha=0.25, linewidth=0.7)
            axis.plot(kimg[thin], smooth[thin], color=color, linewidth=1.6, label=label)
            shown += [np.quantile(values, [0.005, 0.995]), smooth]
        else:
            axis.plot(kimg, values, color=color, linewidth=1.2, marker="o", markersize=3, label=label)
            shown += [values]
    if not panel.smooth:
        shown.append(np.array(panel.rules))
    limits = panel.limits or _limits(np.concatenate(shown), log)
    if limits is not None and not panel.limits and not log:
        low, high = panel.bounds
        thin = 0.01 * (limits[1] - limits[0])  # of the line that lies on a bound
        limits = (max(limits[0], low - thin), min(limits[1], high + thin))
    if log:
        few_decades = limits is None or limits[1] < 300 * limits[0]
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few_decades else (1.0,), numticks=8))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylim(limits)
    if any(panel.series[name][0] for name in points):
        axis.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 0.97),
            ncols=len(points),
            fontsize=8,
            frameon=False,
            handlelength=1.2,
            columnspacing=1.0,
        )


def _moving_average(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the centred mean over `window` values, at the ends over those that there are."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(values.size), kernel, "same")


def _limits(values: np.ndarray, log: bool) -> tuple[float, float] | None:
    """Returns the range of the values with a margin of 6% on both sides; None leaves it to matplotlib."""
    if log:
        values = np.log10(values[values > 0])
    if not values.size or values.min() == values.max():
        return None
    margin = 0.06 * np.ptp(values)
    low, high = values.min() - margin, values.max() + margin
    return (10**low, 10**high) if log else (low, high)
