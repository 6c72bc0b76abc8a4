"""Every score by its name: which features it looks at, and the function of them. While training and afterwards.

A score is fitted to the reals once and then applied to as many sets of fakes as there are.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import data, features, generator
from jaxgan.config import ConfigError, lookup
from jaxgan.extractors import cifar, digits, dinov2, inception
from jaxgan.features import Extraction, Sample
from jaxgan.metrics import frechet, inception_score, memorisation, modes, prdc
from jaxgan.metrics import kid as kernel

EXTRACTORS = {
    # name: weights file or "" -> Extractor
    "inception": lambda file: inception.load(file or None),
    "dinov2": lambda file: dinov2.load(file or None),
    "cifar": lambda file: cifar.load(),
    "digits": lambda file: digits.load(),
}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Protocol(NamedTuple):
    """What a score depends on beside the generator; the default is NVIDIA's (fid50k_full, is50k)."""

    num: int = 50_000  # fakes
    num_real: int = 0  # reals, evenly over the set; 0: all
    split: str = "train"
    flips: bool = False  # every real a second time, mirrored
    is_splits: int = 10
    seed: int = 0


class Metric(NamedTuple):
    """A score of fakes."""

    features: str  # "extractor/output"
    keys: tuple[str, ...]  # of the results; there may be more, one a class
    fit: Callable  # (reals: Sample or None, protocol) -> (fakes: Sample) -> {key: float}
    reals: bool = True  # whether it compares with reals
    labels: bool = False  # whether the fakes must have labels
    dataset: str = ""  # the only config.data.name that it is defined for; "": any


def _fid(reals, protocol):
    reference = frechet.Reference(reals.features)
    return lambda fakes: {"fid": reference.distance(fakes.features)}


class Evaluator:
    """Scores fakes by some metrics; what does not change between two sets of fakes is computed once, when first needed.

    Args:
      metrics: names in METRICS.
      protocol: what else the scores depend on.
      weights: file of an extractor's weights by its name, "" or none: fetched on first use.
      active: whether to show progress.

    Raises:
      ConfigError: an unknown metric, or weights that are not here and cannot be fetched.
    """

    def __init__(self, metrics: Iterable[str], protocol: Protocol, weights: dict[str, str] | None = None, active=True):
        self.metrics = {name: lookup(METRICS, name, "metrics") for name in metrics}
        self.protocol, self._active = protocol, active
        self.reals, self.reals_name = None, ""
        kinds = {metric.features for metric in self.metrics.values()}
        try:
            self.extractors = {
                name: EXTRACTORS[name]((weights or {}).get(name, ""))
                for name in sorted({kind.partition("/")[0] for kind in kinds})
            }
        except ValueError as error:
            raise ConfigError(error) from error
        self._kinds = kinds
        self._of_images = Extraction(self.extractors, kinds)
        self._of_generator = functools.lru_cache(maxsize=2)(self._make_of_generator)

    @property
    def needs_reals(self) -> bool:
        """Whether `compare_with` must be called before anything is scored."""
        return any(metric.reals for metric in self.metrics.values())

    def compare_with(self, dataset: data.Dataset, name: str) -> None:
        """Take these reals, of a set with this name; their features are computed when first needed."""
        self.reals, self.reals_name = dataset, name
        for computed in ("_reals", "_fitted"):
            self.__dict__.pop(computed, None)

    def score_generator(self, run: generator.Generator) -> dict[str, float]:
        """Scores of the first `protocol.num` samples, their labels drawn from those of the reals if there are reals."""
        if not self.metrics:
            return {}
        fitted = self._fitted  # first, so that its progress is shown first
        extraction = self._of_generator(run.module, run.config.model.z_dim)
        index = np.arange(self.protocol.num, dtype=np.int32)
        labels, size = self._labels(run), extraction.block
        blocks = ((index[i : i + size], labels[i : i + size]) for i in range(0, len(index), size))
        variables = {"net": run.variables, "seed": np.int32(self.protocol.seed)}
        return self._score(fitted, extraction(blocks, variables), labels if run.num_classes else None)

    def score_images(self, dataset: data.Dataset) -> dict[str, float]:
        """Scores of the first `protocol.num` images of a set."""
        index = np.arange(self.protocol.num)
        blocks = features.image_blocks(dataset, index, self._of_images.block)
        labels = dataset.labels[index] if dataset.num_classes else None
        return self._score(self._fitted, self._of_images(blocks), labels)

    def neighbours(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the n fakes scored last that are nearest to a real, nearest first, and those of these reals.

        In the space of the first metric that compares with reals; a ConfigError if there is none.
        """
        kind = next((metric.features for metric in self.metrics.values() if metric.reals), None)
        if kind is None:
            raise ConfigError("--neighbours: needs a metric that compares with reals, such as authpct_cifar")
        index, distance = memorisation.nearest(self._last[kind].features, self._reals[kind].features)
        nearest = np.argsort(distance, kind="stable")[:n]
        return nearest, self._real_indices[index[nearest]] % len(self.reals)

    def samples(self, run: generator.Generator, indices: np.ndarray) -> np.ndarray:
        """Some of the samples that `score_generator` scores, uint8 [n, H, W, C]."""
        p = self.protocol
        z, _, keys = (x[indices] for x in run.latents(p.num, p.seed))
        return run.decode(z, self._labels(run)[indices], keys)

    def _labels(self, run: generator.Generator) -> np.ndarray:
        return run.labels(self.protocol.num, self.protocol.seed, None if self.reals is None else self.reals.labels)

    def check_images(self, dataset: data.Dataset) -> None:
        """Raise a ConfigError if the protocol or a metric asks for something that a set of fakes has not."""
        if len(dataset) < self.protocol.num:
            raise ConfigError(f"--num={self.protocol.num}: there are {len(dataset)} images")
        for name, metric in self.metrics.items():
            if metric.labels and not dataset.num_classes:
                raise ConfigError(f"--metrics={name}: takes the classes of the images, and these have no labels")
        if self.reals is not None and self.reals.image_shape[:2] != dataset.image_shape[:2]:
            sizes = ("x".join(map(str, d.image_shape[:2])) for d in (dataset, self.reals))
            raise ConfigError("--real={!r}: images of {} cannot be compared with reals of {}".format(self.reals_name, *sizes))

    def describe(self) -> dict:
        """The protocol in full, for the record."""
        p = self.protocol
        return {
            "n_fake": p.num,
            "n_real": 0 if self.reals is None else len(self._real_indices),
            "reals": self.reals_name,
            "flips": p.flips,
            "is_splits": p.is_splits,
            "seed": p.seed,
            "extractors": {name: {"weights": e.weights, "resize": e.resize} for name, e in self.extractors.items()},
        }

    def _make_of_generator(self, module, z_dim: int) -> Extraction:
        def images_of(variables, block):
            index, labels = block
            z, _, keys = generator.draw(variables["seed"], z_dim, 0, index)
            return generator.decode(module, variables["net"], z, labels, keys)

        return Extraction(self.extractors, self._kinds, images_of)

    @property
    def _real_indices(self) -> np.ndarray:
        n = len(self.reals)
        indices = data.spread(n, self.protocol.num_real or n)
        return np.concatenate([indices, n + indices]) if self.protocol.flips else indices

    @functools.cached_property
    def _reals(self) -> dict[str, Sample]:
        """The reals by the kinds of features that a metric compares."""
        kinds = {metric.features for metric in self.metrics.values() if metric.reals}
        if not kinds:
            return {}
        indices, what = self._real_indices, f"reals ({self.reals_name})"
        extraction = Extraction(self.extractors, kinds)
        kept = features.kept_features(self.reals, indices, extraction, what=what, active=self._active)
        labels = self.reals.labels[indices % len(self.reals)] if self.reals.num_classes else None
        return {kind: Sample(values, labels) for kind, values in kept.items()}

    @functools.cached_property
    def _fitted(self) -> dict[str, Callable]:
        """Each metric as a function of fakes."""
        return {name: m.fit(self._reals.get(m.features), self.protocol) for name, m in self.metrics.items()}

    def _score(self, fitted, parts, labels) -> dict[str, float]:
        collected = {kind: [] for kind in self._kinds}
        with features.progress(self.protocol.num, "fakes", active=self._active) as bar:
            for part in parts:
                for kind, values in part.items():
                    collected[kind].append(values)
                bar.update(len(next(iter(part.values()))))
        self._last = {kind: Sample(np.concatenate(parts), labels) for kind, parts in collected.items()}
        return {
            key: float(value)
            for name, score in fitted.items()
            for key, value in score(self._last[self.metrics[name].features]).items()
        }
