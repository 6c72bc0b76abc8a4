"""The panels of a run's curves: which numbers of metrics.jsonl belong together, and how they want to be drawn."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from jaxgan.evaluation import METRICS

MAX_POINTS = 600  # a curve is thinned out to at most twice this: more than its panel has pixels

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#555555"  # colour-blind safe
INK = "#222222"
PALETTE = (GREEN, PURPLE, BLUE, ORANGE, GREY)


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `series` is {metric name: (label, colour)}."""

    title: str
    series: dict[str, tuple[str, str]]
    log: bool = False  # logarithmic y axis
    smooth: bool = True  # False: few values, each of them worth a marker
    limits: tuple[float, float | None] | None = None  # of the y axis; None: those of the values
    bounds: tuple[float, float] = (-math.inf, math.inf)  # of the quantity: the y axis ends where it ends
    rules: tuple[float, ...] = ()  # thin horizontal lines to compare with
    reals: float | None = None  # what held-out real images reach
    num_reals: int = 0  # how many these are


class HeldOut(NamedTuple):
    """What held-out real images reach, {"eval/...": score}, and by what protocol."""

    scores: dict[str, float]
    protocol: dict

    @property
    def count(self) -> int:
        """How many of them were scored."""
        return self.protocol["held_out"]["images"] if self.protocol else 0


NOT_KNOWN = HeldOut({}, {})

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
    Panel("Losses", {"loss/d": ("D", BLUE), "loss/g": ("G", ORANGE)}),
    Panel("Logits of D", {"logits/real": ("real", GREEN), "logits/fake": ("fake", PURPLE)}, rules=(0.0,)),
    Panel(
        "Accuracy of D",
        {"acc/real": ("real", GREEN), "acc/fake": ("fake", PURPLE)},
        limits=(-0.03, 1.03),
        rules=(0.5,),
    ),
    Panel("Gradient norms", {"norm/grad_d": ("D", BLUE), "norm/grad_g": ("G", ORANGE)}, log=True),
    Panel(
        "Health",
        {"health/variety": ("variety, best at 1", ORANGE), "health/overfitting": ("overfitting, best at 0", BLUE)},
        smooth=False,
        rules=(0.0, 1.0),
    ),
)
_STRENGTH = Panel("Strength of the augmentation", {"ada/p": ("", PURPLE)}, bounds=(0.0, 1.0))
_RATES = Panel("Learning rates", {"lr/d": ("D", BLUE), "lr/g": ("G", ORANGE)}, bounds=(0.0, math.inf))
_SPEED = Panel("Images per second", {"perf/images_per_second": ("", GREY)}, limits=(0.0, None))


def panels(records: list[dict], held_out: HeldOut = NOT_KNOWN) -> list[tuple[Panel, dict[str, np.ndarray]]]:
    """Returns each panel that has something to show, and its series as arrays [2, n]: kimg, value.

    A panel each for losses, logits and accuracy of D, gradient norms, penalties, health, the strength of an adaptive
    augmentation, learning rates that change, every evaluation score (an arrow says which way is better) and images/s.

    Args:
      records: what `log.read_metrics` or `History.lines` returns.
      held_out: what held-out real images reach.
    """
    names = sorted({name for record in records for name in record})
    penalties = [name for name in names if name.startswith("penalty/")]
    labels = {name: (name.removeprefix("penalty/"), PALETTE[i % len(PALETTE)]) for i, name in enumerate(penalties)}
    # The scores of single classes would bury all else.
    better = directions()
    reals = {name: dict(reals=value, num_reals=held_out.count) for name, value in held_out.scores.items()}
    evaluations = [_evaluation(name, better[name], reals.get(name, {})) for name in names if name in better]
    found = []
    for panel in (*_PANELS, Panel("Penalties", labels, log=True), _STRENGTH, _RATES, *evaluations, _SPEED):
        series = {name: points(records, name) for name in panel.series}
        series = {name: xy for name, xy in series.items() if xy.size}
        if panel is _RATES and all(np.ptp(xy[1]) == 0.0 for xy in series.values()):
            continue
        if panel is _RATES and len(series) == 2 and np.array_equal(*series.values()):
            panel = replace(panel, series={"lr/d": ("D and G", BLUE)})
            del series["lr/g"]
        if panel.title == "Accuracy of D" and len(series) == 2 and np.array_equal(*series.values()):
            panel = replace(panel, title="Accuracy of D: reals above fakes", series={"acc/real": ("", GREEN)})
            del series["acc/fake"]  # a relativistic D has one accuracy
        if series:
            found.append((panel, series))
    return found


def directions() -> dict[str, bool | None]:
    """Returns for each score of a whole generator, "eval/...", whether higher is better; None where neither is."""
    return {f"eval/{key}": higher for metric in METRICS.values() for key, higher in metric.keys.items()}


def _evaluation(name: str, higher_is_better: bool | None, reals: dict) -> Panel:
    """Returns the panel of a score "eval/..."."""
    key = name.removeprefix("eval/")
    arrow = {True: " \u2191", False: " \u2193", None: ""}[higher_is_better]
    bounds = next((bounds for start, bounds in _BOUNDS.items() if key.startswith(start)), (-math.inf, math.inf))
    return Panel(f"Evaluation: {key}{arrow}", {name: ("", INK)}, smooth=False, bounds=bounds, **reals)


def points(records: list[dict], name: str) -> np.ndarray:
    """Returns the finite values of a metric as [2, n]: kimg, value."""
    pairs = np.array([(record["kimg"], record[name]) for record in records if name in record])
    return pairs[np.isfinite(pairs[:, 1])].T if pairs.size else pairs
