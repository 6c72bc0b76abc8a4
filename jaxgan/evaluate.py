"""Scores of a generator while it trains: `config.eval.metrics`, each a function of images."""

from collections.abc import Callable
from typing import NamedTuple


class Metric(NamedTuple):
    """A score, fitted once at start-up."""

    fit: Callable[[], Callable]  # () -> (images uint8 [N, H, W, C] -> {key: float})
    keys: tuple[str, ...]
    dataset: str  # the only config.data.name that it is defined for


def _fit_modes():
    from jaxgan.metrics import modes

    classifier = modes.DigitClassifier()
    return lambda images: modes.modes(images, classifier)


METRICS = {"modes": Metric(_fit_modes, ("modes", "kl"), "stacked_digits")}


def make_evaluator(names, num_samples: int):
    """evaluate(generator) -> {"eval/KEY": float} of the first `num_samples` samples of seed 0."""
    fitted = [METRICS[name].fit() for name in names]

    def evaluate(generator) -> dict[str, float]:
        if not fitted:
            return {}
        images = generator.sample(num_samples)
        return {f"eval/{key}": value for metric in fitted for key, value in metric(images).items()}

    return evaluate
