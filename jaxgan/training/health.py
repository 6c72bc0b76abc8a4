"""The health of a GAN in training: arrays in, floats out, and floats in, warnings with two settings to try out.

Warnings are a function of the lines of metrics.jsonl, so a resumed run comes to the same ones. Every threshold is a
constant below, with its reason.
"""

import math
from dataclasses import dataclass

import numpy as np

WARMUP_KIMG = 20.0  # nothing is said before: at first D always wins and samples are all alike
RECENT = 5  # lines whose median is a metric's level, so that one odd batch means nothing

# D separates (nearly) every real from every fake. That alone is how WGAN-GP or a fresh D may look; it is a
# fault once G gets next to no gradient any more: by its own earlier standard, or, for a D that won at once, by
# a thousandth of the least that was seen in healthy short runs of four losses on small images (0.3 to 10).
SATURATED_ACCURACY = 0.99
VANISHED_FRACTION = 0.1
VANISHED = 3e-4

# Samples of a good generator differ 0.85 to 1 times as much as reals. Where a fraction p of them is the same
# image, sqrt(1 - p^2) of that is left: 0.4 at p = 0.92, and 0.7 (a drop by 0.3) at p = 0.71. A collapse onto
# several modes hardly shows here, sqrt(1 - 1 / modes) is left; hence the count of modes where they are known.
COLLAPSED_VARIETY = 0.4
VARIETY_DROP = 0.3
VARIETY_RISE = 1.1  # a low variety that grows by a tenth from check to check is a young run's
MODES_DROP = 0.2  # several times the noise of a count in 26,000 samples

# From here on D's logits on held-out reals are nearer to those on fakes than to those on train reals.
OVERFIT = 0.5
SEPARATION = 5.0  # standard errors; below, r_v is a quotient of two noises (its own error is 1/5 here)

# Within the last doubling of the run a level grew this many times: faster than its cube. Healthy levels,
# even the drifting logits of a Wasserstein critic and the slow growth of weights, follow lower powers.
EXPLOSION = 8.0
# Below this, growth is only a small number becoming a usual one: a sigmoid is sure to 2e-9 at 20.
EXPLOSION_FLOOR = 20.0
# A loss beyond this is lost however it got there: healthy ones, of WGAN too, stay ten times smaller.
LOST = 1000.0

MORE_R1 = "a larger --config.penalty.r1.weight (0 is off, 1 is usual)"


def pairwise_distance(images: np.ndarray) -> float:
    """Returns the root mean square difference between two different images of the set, in pixel units of [-1, 1].

    The mean over all pairs of the squared difference is twice the unbiased variance, so no pair is ever formed.
    Near 0 all images are alike.

    Args:
      images: [N, H, W, C], N >= 2, uint8 or floats in [-1, 1].
    """
    if len(images) < 2:
        raise ValueError(f"a pairwise distance needs at least 2 images, not {len(images)}")
    unit = 1.0 / 127.5 if images.dtype == np.uint8 else 1.0
    return unit * math.sqrt(2.0 * np.var(images, axis=0, ddof=1, dtype=np.float64).mean())


def overfitting_gap(logits_train: np.ndarray, logits_heldout: np.ndarray, logits_fake: np.ndarray) -> float:
    """Returns where D puts held-out reals between train reals (0) and fakes (1), from logits [N] each.

    That is (E D(train) - E D(heldout)) / (E D(train) - E D(fake)), r_v of StyleGAN2-ADA (Karras et al. 2020, eq. 1).
    NaN while D does not tell train reals from fakes by more than the noise of the means, or of a single held-out image.
    """
    train, heldout, fake = (np.asarray(x, np.float64) for x in (logits_train, logits_heldout, logits_fake))
    span = train.mean() - fake.mean()
    noise = math.sqrt(sum(x.var() / x.size for x in (train, heldout, fake)))
    known = heldout.size > 1 and span > SEPARATION * noise
    return float((train.mean() - heldout.mean()) / span) if known else math.nan


@dataclass(frozen=True)
class HealthWarning:
    """A symptom, the figures that show it, and two settings to try."""

    symptom: str  # "D saturated", "mode collapse", "D overfits" or "divergence"
    figure: str
    advice: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.symptom}: {self.figure}. Try {self.advice[0]}, or {self.advice[1]}."


def health_warnings(history: list[dict]) -> list[HealthWarning]:
    """Returns what is wrong with a run, from its metrics lines in order; [] for a healthy or a young one.

    The last line is the present. What is read are kimg, acc/*, logits/*, loss/*, norm/grad_g and norm/param_* of every
    line, and of the lines that have them health/variety (`pairwise_distance` of samples over that of reals),
    health/overfitting (`overfitting_gap`) and eval/modes.
    """
    if not history or history[-1]["kimg"] < WARMUP_KIMG:
        return []
    found = (_saturated(history), _collapsed(history), _overfitted(history), _diverged(history))
    return [warning for warning in found if warning]


class HealthMonitor:
    """Gives a warning when its symptom appears, not again at every check while it lasts.

    It remembers only the symptoms of the check before; after a resume a lasting symptom is reported once more.
    """

    def __init__(self):
        self._symptoms: set[str] = set()

    def check(self, history: list[dict]) -> list[HealthWarning]:
        """Returns the warnings of `health_warnings` whose symptom the check before did not have."""
        found = health_warnings(history)
        new = [warning for warning in found if warning.symptom not in self._symptoms]
        self._symptoms = {warning.symptom for warning in found}
        return new


def _values(history: list[dict], name: str, *, begin: float = 0.0, end: float = math.inf) -> np.ndarray:
    """Returns the finite values of a metric in lines with begin <= kimg <= end, in order."""
    values = [line[name] for line in history if name in line and begin <= line["kimg"] <= end]
    return np.array([value for value in values if math.isfinite(value)])


def _level(values: np.ndarray) -> float:
    """Returns the recent level, or NaN, with which every comparison fails, if there are too few values."""
    return float(np.median(values[-RECENT:])) if values.size >= RECENT else math.nan


def _saturated(history: list[dict]) -> HealthWarning | None:
    real, fake = (_level(_values(history, name)) for name in ("acc/real", "acc/fake"))
    norms = _values(history, "norm/grad_g")
    if not (real >= SATURATED_ACCURACY and fake >= SATURATED_ACCURACY) or norms.size < 2 * RECENT:
        return None
    whole = norms[norms.size % RECENT :].reshape(-1, RECENT)
    now, best = _level(norms), float(np.median(whole, axis=1).max())
    if not now < max(VANISHED, VANISHED_FRACTION * best):
        return None
    return HealthWarning(
        "D saturated",
        f"accuracy {real:.3f} on reals and {fake:.3f} on fakes, gradient norm of G {now:.2g}, at best {best:.2g}",
        (MORE_R1, "half the --config.optim_d.lr"),
    )


def _collapsed(history: list[dict]) -> HealthWarning | None:
    varieties = _values(history, "health/variety", begin=WARMUP_KIMG)
    modes = _values(history, "eval/modes", begin=WARMUP_KIMG)
    figure = ""
    if varieties.size:
        now, best = varieties[-1], min(varieties.max(), 1.0)  # more varied than reals is noise, not merit
        low = varieties.size > 1 and varieties[-2:].max() < COLLAPSED_VARIETY
        if low and now < VARIETY_RISE * varieties[-2]:
            figure = f"samples differ {now:.2f} times as much as reals"
        elif now < (1.0 - VARIETY_DROP) * best:
            figure = f"samples differ {now:.2f} times as much as reals, after {best:.2f}"
    if not figure and modes.size and modes[-1] < (1.0 - MODES_DROP) * modes.max():
        figure = f"{modes[-1]:.0f} modes captured, after {modes.max():.0f}"
    if not figure:
        return None
    advice = ("half the --config.optim_g.lr", MORE_R1)
    return HealthWarning("mode collapse", figure, advice)


def _overfitted(history: list[dict]) -> HealthWarning | None:
    gaps = _values(history, "health/overfitting", begin=WARMUP_KIMG)[-2:]
    if gaps.size < 2 or gaps.min() <= OVERFIT:  # two checks in a row: held-out sets are small
        return None
    return HealthWarning(
        "D overfits",
        f"held-out reals are {gaps[-1]:.0%} of the way from train reals to fakes in D's logits",
        (MORE_R1, "smaller --config.model.d.channels"),
    )


def _diverged(history: list[dict]) -> HealthWarning | None:
    # The gap, not the logits: where a loss sees differences only, both may drift together without harm.
    gap = [
        {"kimg": line["kimg"], "gap": line["logits/real"] - line["logits/fake"]}
        for line in history
        if "logits/real" in line
    ]
    half = history[-1]["kimg"] / 2
    for lines, name, words, net in (
        (gap, "gap", "the gap between D's logits on reals and fakes", "d"),
        (history, "loss/d", "the loss of D", "d"),
        (history, "loss/g", "the loss of G", "d"),  # its scale is that of D's logits
        (history, "norm/param_d", "the norm of D's parameters", "d"),
        (history, "norm/param_g", "the norm of G's parameters", "g"),
    ):
        now, before = (_level(abs(_values(lines, name, end=end))) for end in (math.inf, half))
        if now > EXPLOSION_FLOOR and now > EXPLOSION * before:
            figure = f"{words} grew from {before:.3g} at {half:.4g} kimg to {now:.3g}"
        elif now > LOST and name.startswith("loss/"):
            figure = f"{words} has a size of {now:.3g}"
        else:
            continue
        brake = MORE_R1 if net == "d" else "--config.optim_g.clip_norm=1"
        return HealthWarning("divergence", figure, (f"a third of the --config.optim_{net}.lr", brake))
    return None
