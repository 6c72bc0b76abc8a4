"""The curves of a run: records of metrics.jsonl in, a PNG out."""

import io
import os

import numpy as np

from jaxgan.core.files import atomic_write
from jaxgan.core.words import counted
from jaxgan.training.panels import GREY, INK, MAX_POINTS, NOT_KNOWN, HeldOut, Panel, panels

RULE = "#E4E4E4"


def curves(records: list[dict], path: str | os.PathLike, *, title: str, held_out: HeldOut = NOT_KNOWN) -> None:
    """Draws what `log.read_metrics` returns against kimg, as a PNG; without a known metric nothing is written.

    The panels are those of `panels`, and so is `held_out`. Raw values faint, their moving average bold; the y axis
    leaves out the wildest 1% of the raw values rather than flatten the rest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = panels(records, held_out)
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


def dress(axis, title: str) -> None:
    """Gives an axis of matplotlib its title and the looks of all curves here."""
    axis.set_title(title, loc="left", fontsize=9.5, color=INK)
    axis.grid(color=RULE, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(labelsize=8, color="#999999", labelcolor=INK, length=3)


def scale_by_log(axis, low: float, high: float) -> None:
    """Makes the y axis logarithmic, with `log_ticks` for what is between `low` and `high`."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())


def _draw(axis, panel: Panel, points: dict[str, np.ndarray]) -> None:
    dress(axis, panel.title)
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
    if panel.reals is not None:
        shown.append(np.array([panel.reals]))
    limits = panel.limits or _limits(np.concatenate(shown), log)
    if limits is not None and not panel.limits and not log:
        low, high = panel.bounds
        thin = 0.01 * (limits[1] - limits[0])  # of the line that lies on a bound
        limits = (max(limits[0], low - thin), min(limits[1], high + thin))
    if log:
        scale_by_log(axis, *limits)
    axis.set_ylim(limits)
    if panel.reals is not None:
        _draw_reals(axis, panel.reals, panel.num_reals)
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


def _draw_reals(axis, value: float, count: int) -> None:
    """Draws what held-out reals reach, and says so on the left, where the curve is still far from it."""
    axis.axhline(value, color=GREY, linewidth=0.8, linestyle=(0, (5, 3)), zorder=1)
    low, high = axis.get_ylim()
    below = value > (low + high) / 2
    axis.annotate(
        f"{counted(count, 'held-out real')}: {value:.3g}",
        (0.02, value),
        xycoords=axis.get_yaxis_transform(),
        xytext=(0, -2 if below else 2),
        textcoords="offset points",
        va="top" if below else "bottom",
        fontsize=8,
        color=GREY,
    )


def log_ticks(low: float, high: float) -> np.ndarray:
    """Returns where a logarithmic axis has its ticks: powers of ten, or finer steps where these are fewer than three.

    Example:
      >>> log_ticks(0.003, 40.0).tolist(), log_ticks(0.9, 11.0).tolist(), log_ticks(2.2, 6.9).tolist()
      ([0.01, 0.1, 1.0, 10.0], [1.0, 2.0, 5.0, 10.0], [3.0, 4.0, 5.0, 6.0])
    """
    from matplotlib.ticker import MaxNLocator

    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ([1.0], [1.0, 2.0, 5.0]):
        ticks = np.outer(10.0**decades, steps).ravel()
        ticks = ticks[(low <= ticks) & (ticks <= high)]
        if len(ticks) > 2:
            return ticks[:: -(-len(ticks) // 8)]
    ticks = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high)
    return ticks[(low <= ticks) & (ticks <= high)]


def _moving_average(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the centred mean over `window` values, at the ends over those that there are."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(values.size), kernel, "same")


def _limits(values: np.ndarray, log: bool) -> tuple[float, float] | None:
    """Returns the range of the values with a margin of 6% on both sides; None leaves it to matplotlib."""
    if log:
        values = np.log10(values[values > 0])
    if not values.size or (not log and np.ptp(values) == 0.0):
        return None
    margin = 0.06 * np.ptp(values) or 0.3  # of powers of ten: a factor of two around a single value
    low, high = values.min() - margin, values.max() + margin
    return (10**low, 10**high) if log else (low, high)
