"""Every score by its name: which features it looks at, and the function of them. While training and afterwards.

A score is fitted to the reals once and then applied to as many sets of fakes as there are.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from jaxgan import data
from jaxgan.core.errors import ConfigError, lookup
from jaxgan.evaluation import features
from jaxgan.evaluation.features import Extraction, Sample
from jaxgan.evaluation.metrics.classes import class_accuracy, class_balance
from jaxgan.evaluation.metrics.frechet import Moments, frechet_distance, frechet_infinity, frechet_per_class
from jaxgan.evaluation.metrics.inception_score import inception_score
from jaxgan.evaluation.metrics.kid import kid
from jaxgan.evaluation.metrics.memorisation import authpct
from jaxgan.evaluation.metrics.modes import modes
from jaxgan.evaluation.metrics.neighbours import nearest
from jaxgan.evaluation.metrics.prdc import prdc
from jaxgan.evaluation.networks import cifar, digits, dinov2, inception
from jaxgan.sampling import generator

EXTRACTORS = {
    # name: weights file or None -> Extractor
    "inception": lambda file: inception.load(file),
    "dinov2": lambda file: dinov2.load(file),
    "cifar": lambda file: cifar.load(),
    "digits": lambda file: digits.load(),
}


class Protocol(NamedTuple):
    """What a score depends on beside the generator; the default is NVIDIA's (fid50k_full, is50k)."""

    num: int = 50_000  # fakes
    num_real: int = 0  # reals, evenly over the set; 0: all
    split: str = "train"
    flips: bool = False  # every real a second time, mirrored
    is_splits: int = 10
    seed: int = 0  # of the samples, and of the subsets of fid_infinity
    standing_batches: int = 0  # of 64 samples, to measure batch norm's statistics on, if G has any; 0: running ones


class Metric(NamedTuple):
    """A score of fakes."""

    features: str  # "extractor/output"
    keys: tuple[str, ...]  # of the results; there may be more, one a class
    fit: Callable  # (reals: Sample or None, protocol) -> (fakes: Sample) -> {key: float}
    rename: Callable[[str], str] = str  # keys to what a reader sees
    reals: bool = True  # whether it compares with reals
    labels: bool = False  # whether fakes (and reals) must have labels
    dataset: str = ""  # the only config.data.name that it is defined for while training; "": any
    least: int = 2  # fakes that it takes

    @property
    def names(self) -> tuple[str, ...]:
        """The keys as a reader sees them."""
        return tuple(map(self.rename, self.keys))


def _gaussian(sample: Sample):
    return Moments().add(sample.features).gaussian()


def _fid(reals, protocol):
    reference = _gaussian(reals)
    return lambda fakes: {"fid": frechet_distance(_gaussian(fakes), reference)}


def _fid_infinity(reals, protocol):
    reference = _gaussian(reals)
    return lambda fakes: {"fid_infinity": frechet_infinity(fakes.features, reference, seed=protocol.seed)}


def _fid_per_class(reals, protocol):
    def score(fakes):
        mean, each = frechet_per_class(fakes.features, fakes.labels, reals.features, reals.labels)
        return {"fid_per_class": mean} | {f"fid_of_class_{label}": value for label, value in each.items()}

    return score


def _kid(reals, protocol):
    return lambda fakes: dict(zip(("kid", "kid_std"), kid(fakes.features, reals.features)))


def _prdc(reals, protocol):
    return lambda fakes: prdc(fakes.features, reals.features)


def _authpct(reals, protocol):
    return lambda fakes: {"authpct": authpct(fakes.features, reals.features)}


def _is(reals, protocol):
    return lambda fakes: dict(zip(("is", "is_std"), inception_score(fakes.features, protocol.is_splits)))


def _balance(reals, protocol):
    def score(fakes):
        kl, shares = class_balance(fakes.features)
        return {"class_kl": kl} | {f"share_of_{name}": share for name, share in zip(cifar.CLASSES, shares)}

    return score


def _accuracy(reals, protocol):
    def score(fakes):
        mean, each = class_accuracy(fakes.features, fakes.labels)
        return {"accuracy": mean} | {f"accuracy_of_{name}": value for name, value in zip(cifar.CLASSES, each)}

    return score


def _modes(reals, protocol):
    return lambda fakes: modes(fakes.features)


def _compared(extractor: str, rename: Callable[[str], str], dataset: str = "") -> dict[str, Metric]:
    """The metrics that compare the `pool` features of fakes and reals."""
    pool = f"{extractor}/pool"
    metrics = {
        "fid": Metric(pool, ("fid",), _fid),
        "fid_infinity": Metric(pool, ("fid_infinity",), _fid_infinity, least=5001),
        "fid_per_class": Metric(pool, ("fid_per_class",), _fid_per_class, labels=True),
        "kid": Metric(pool, ("kid", "kid_std"), _kid, least=1000),
        "prdc": Metric(pool, ("precision", "recall", "density", "coverage"), _prdc, least=6),
        "authpct": Metric(pool, ("authpct",), _authpct),
    }
    return {rename(name): metric._replace(rename=rename, dataset=dataset) for name, metric in metrics.items()}


def _suffixed(suffix: str) -> Callable[[str], str]:
    """FID is called so for Inception's features only; of others it is an FD."""

    def rename(key: str) -> str:
        name, std, _ = key.replace("fid", "fd").partition("_std")
        return f"{name}_{suffix}{std}"

    return rename


_CIFAR = dict(reals=False, rename=_suffixed("cifar"), dataset="cifar10")

METRICS = {
    **_compared("inception", str),
    "sfid": Metric("inception/spatial", ("fid",), _fid, rename=lambda key: f"s{key}"),
    "is": Metric("inception/logits", ("is", "is_std"), _is, reals=False),
    **_compared("dinov2", _suffixed("dinov2")),
    **_compared("cifar", _suffixed("cifar"), dataset="cifar10"),
    "is_cifar": Metric("cifar/logits", ("is", "is_std"), _is, **_CIFAR),
    "balance_cifar": Metric("cifar/logits", ("class_kl",), _balance, **_CIFAR),
    "accuracy_cifar": Metric("cifar/logits", ("accuracy",), _accuracy, labels=True, **_CIFAR),
    "modes": Metric("digits/logits", ("modes", "kl"), _modes, reals=False, dataset="stacked_digits"),
}


@contextlib.contextmanager
def _blamed_on(metric: str):
    """What a metric does not accept becomes a ConfigError that names it."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"--metrics={metric}: {error}") from error


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
        self.metrics = {name: lookup(METRICS, name, "--metrics") for name in metrics}
        self.protocol, self._active = protocol, active
        self.reals, self.reals_name = None, ""
        kinds = {metric.features for metric in self.metrics.values()}
        try:
            self.extractors = {
                name: EXTRACTORS[name]((weights or {}).get(name) or None)
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
        run = self._standing(run)
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
        index, distance = (x[:, 0] for x in nearest(self._last[kind].features, self._reals[kind].features))
        closest = np.argsort(distance, kind="stable")[:n]
        return closest, self._real_indices[index[closest]] % len(self.reals)

    def samples(self, run: generator.Generator, indices: np.ndarray) -> np.ndarray:
        """Some of the samples that `score_generator` scores, uint8 [n, H, W, C]."""
        p = self.protocol
        z, _, keys = (x[indices] for x in run.latents(p.num, p.seed))
        return self._standing(run).decode(z, self._labels(run)[indices], keys)

    def _standing(self, run: generator.Generator) -> generator.Generator:
        p = self.protocol
        measured = p.standing_batches and run.has_batch_norm
        return run.with_standing_statistics(p.standing_batches, seed=p.seed) if measured else run

    def _labels(self, run: generator.Generator) -> np.ndarray:
        return run.labels(self.protocol.num, self.protocol.seed, None if self.reals is None else self.reals.labels)

    def check(self, dataset: data.Dataset | None = None) -> None:
        """Raise a ConfigError if a metric takes more fakes than the protocol has, or that more than a set of fakes."""
        for name, metric in self.metrics.items():
            if self.protocol.num < metric.least:
                raise ConfigError(f"--num={self.protocol.num}: {name} takes at least {metric.least} fakes")
        if dataset is None:
            return
        if len(dataset) < self.protocol.num:
            raise ConfigError(f"--num={self.protocol.num}: there are {len(dataset)} images")
        if self.reals is not None and self.reals.image_shape[:2] != dataset.image_shape[:2]:
            sizes = ("x".join(map(str, d.image_shape[:2])) for d in (dataset, self.reals))
            raise ConfigError("images of {} pixels cannot be compared with reals of {} pixels".format(*sizes))

    def describe(self) -> dict:
        """The protocol in full, for the record."""
        p = self.protocol
        return {
            "n_fake": p.num,
            "n_real": 0 if self.reals is None else len(self._real_indices),
            "reals": self.reals_name,
            "split": p.split,
            "flips": p.flips,
            "is_splits": p.is_splits,
            "seed": p.seed,
            "extractors": {e.name: {"weights": e.weights, "resize": e.resize} for e in self.extractors.values()},
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
        fitted = {}
        for name, metric in self.metrics.items():
            with _blamed_on(name):
                fitted[name] = metric.fit(self._reals.get(metric.features), self.protocol)
        return fitted

    def _score(self, fitted, parts, labels) -> dict[str, float]:
        collected = {kind: [] for kind in self._kinds}
        with features.progress(self.protocol.num, "fakes", active=self._active) as bar:
            for part in parts:
                for kind, values in part.items():
                    collected[kind].append(values)
                bar.update(len(next(iter(part.values()))))
        self._last = {kind: Sample(np.concatenate(parts), labels) for kind, parts in collected.items()}
        scores = {}
        for name, score in fitted.items():
            metric = self.metrics[name]
            if metric.labels and labels is None:
                raise ConfigError(f"--metrics={name}: takes the classes of the images, and these have no labels")
            with _blamed_on(name):
                values = score(self._last[metric.features])
            scores |= {metric.rename(key): float(value) for key, value in values.items()}
        return scores
