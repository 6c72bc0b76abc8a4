"""Scores of a generator while it trains: `config.eval.metrics`, each a function of images."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxgan import diagnose
from jaxgan.parallel import first_replica
from jaxgan.update import normalise


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


EXAMINED = 256  # images of each kind


def some_of(dataset):
    """Images and labels from all over the set, since sorted sets have one class at a time."""
    return dataset.get(np.linspace(0, len(dataset) - 1, min(EXAMINED, len(dataset))).astype(int))


def make_examiner(nets, dataset, held_out):
    """examine(d: NetState, generator) -> {"health/variety", "health/overfit"}: what `diagnose` looks at.

    variety: pairwise distance among samples over that among reals. overfit: where held-out reals stand, to D,
    between train reals (0) and fakes (1); only where there is a held-out split.
    """
    reals, labels = some_of(dataset)
    spread = diagnose.pairwise_distance(reals)
    if held_out is not None:
        others, other_labels = some_of(held_out)

    @jax.jit
    def logits(d, images, labels):
        variables = {"params": d.params, **d.extra}
        return nets.d.apply(variables, normalise(images), labels, train=False)

    def examine(d, generator) -> dict[str, float]:
        d = first_replica(d)
        z, drawn, keys = generator.latents(len(reals))
        fakes = generator.decode(z, drawn, keys)
        figures = {"health/variety": diagnose.pairwise_distance(fakes) / spread}
        if held_out is not None:
            figures["health/overfit"] = diagnose.overfitting_gap(
                logits(d, reals, labels), logits(d, others, other_labels), logits(d, fakes, drawn)
            )
        return {name: value for name, value in figures.items() if not math.isnan(value)}  # NaN: cannot be told yet

    return examine
