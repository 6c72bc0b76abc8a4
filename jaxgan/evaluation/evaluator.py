"""Evaluates any number of generators and sets of images against the same reals."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxgan.core.errors import ConfigError, require, require_whole
from jaxgan.core.memory import require_memory
from jaxgan.core.parallel import Agreed, agree
from jaxgan.data import Dataset, evenly_spaced
from jaxgan.evaluation.features import FeatureExtractor, FeatureSet, cached_features, collect, gather, process_share
from jaxgan.evaluation.metrics.frechet import Gaussian
from jaxgan.evaluation.metrics.neighbours import nearest
from jaxgan.evaluation.networks import NETWORKS
from jaxgan.evaluation.protocol import PROTOCOLS, Protocol
from jaxgan.evaluation.reference import SPATIAL, Statistics
from jaxgan.evaluation.registry import METRICS, Metric, check_metrics
from jaxgan.sampling.generator import Generator

FOREIGN = "the _cifar scores are by a classifier that knows CIFAR-10 alone: they compare runs on the same images only"


class Evaluator:
    """Evaluates any number of generators or sets of images by some metrics, against the same reals.

    What depends on the reals alone is computed once, when it is first needed. The processes of a run share the work:
    all must make the same calls, and all have the results.

    Args:
      metrics: names in `METRICS`.
      protocol: what else the values depend on.
      reals: what to compare with, images or their statistics; None where no metric needs any.
      reals_name: what to call the reals in the record and on the progress bar.
      weights: files of the weights by network; what is not there, or "", is downloaded on first use.
      batch_size: images at a time on each device, as many as its memory holds beside what else is there.
      setting: what the caller calls "metrics", "reals", "images" or a field of the protocol, such as `"--{}".format`;
        for the messages of errors.
      show_progress: whether to show a bar on stderr.

    Raises:
      ConfigError: a metric is unknown, takes more fakes or reals than there are, or labels that there are not; or
        weights are not here and cannot be fetched.

    Example:
      evaluator = Evaluator(["fid", "kid"], Protocol(num=10_000), reals)
      fids = [evaluator.evaluate(jaxgan.load("runs/cifar", step))["fid"] for step in (10_000, 20_000)]
    """

    def __init__(
        self,
        metrics: Iterable[str],
        protocol: Protocol = PROTOCOLS["nvidia"],
        reals: Dataset | Statistics | None = None,
        *,
        reals_name: str = "reals",
        weights: dict[str, str] | None = None,
        batch_size: int = 64,
        setting: Callable[[str], str] = str,
        show_progress: bool = True,
    ):
        require(isinstance(metrics, Iterable), setting("metrics"), metrics, f"give some of {', '.join(METRICS)}")
        right = 'give files by network, such as {"inception": "FILE.pth"}'
        require(weights is None or isinstance(weights, Mapping), "weights", weights, right)
        require_whole("batch_size", batch_size, 1)
        names = list(metrics)
        check_metrics(names, protocol, setting)
        self.metrics = {name: METRICS[name] for name in names}
        self.protocol, self.reals_name = protocol, reals_name
        self.statistics = reals if isinstance(reals, Statistics) else None
        self.reals = None if self.statistics else reals
        self._setting, self._show_progress = setting, show_progress
        self._references: dict[str, Any] = {}  # what each metric compares with
        self._check_reals()
        features = {metric.features for metric in self.metrics.values()}
        self.networks = self._load_networks({name.split("/")[0] for name in features}, weights or {})
        # One for each number of images that networks look at; 0: all.
        self._extractors = {
            most: FeatureExtractor(
                self.networks, [name for name in features if self.networks[name.split("/")[0]].most == most], batch_size
            )
            for most in sorted({network.most for network in self.networks.values()})
        }
        for name in self.metrics if self.statistics else ():
            self._reference(name)  # or an error
        if self.reals is not None and self.metrics:
            self._check_memory(self.reals.image_shape)

    def evaluate(self, fakes: Generator | Dataset, failed: dict[str, Exception] | None = None) -> dict[str, float]:
        """Returns the values of all metrics for the first `protocol.num` samples or images.

        The labels of samples are drawn from those of the reals if these have any, uniformly otherwise.

        Args:
          fakes: what to evaluate.
          failed: as for `compute`.
        """
        return self.compute(self.extract(fakes), failed) if self.metrics else {}

    def evaluate_reals(
        self, others: Dataset, labelled: bool = True, failed: dict[str, Exception] | None = None
    ) -> dict[str, float]:
        """Returns the values of the metrics for other real images in place of the fakes: what samples can reach.

        They are as many as the fakes, or all where there are fewer, and evenly spaced. A metric that takes more images,
        or other classes, is left out.

        Args:
          others: real images that are not among those to compare with.
          labelled: whether to look at the classes of the images, if they have any, as at those of conditional samples.
          failed: as for `compute`.
        """
        indices = evenly_spaced(len(others), self.protocol.num)
        labels = others.labels[indices] if labelled and others.num_classes else None
        able = {}
        for name, metric in self.metrics.items():
            with contextlib.suppress(ConfigError):
                check_metrics([name], self.protocol._replace(num=len(indices)))
                self._check_labels(name, labels)
                able[name] = metric
        features = self._features_of(others, indices, labels, able.values(), f"other reals ({self.reals_name})")
        return self._compute_all(able, features, failed)

    def extract(self, fakes: Generator | Dataset) -> dict[str, FeatureSet]:
        """Returns the features of the first `protocol.num` samples or images by their names, for `compute`."""
        labels, features = self.check(fakes), {}
        generator = self._with_statistics(fakes) if isinstance(fakes, Generator) else None
        for most, extractor in self._extractors.items():
            chosen = _chosen(self.protocol.num, most).astype(np.int32)
            own = labels[chosen] if labels is not None else None
            share = process_share(len(chosen))
            if generator is not None:
                given = np.zeros(len(chosen), np.int32) if own is None else own
                parts = extractor.from_samples(generator, chosen[share], given[share], self.protocol.seed)
            else:
                parts = extractor.from_images(fakes, chosen[share])
            work = functools.partial(
                collect, parts, extractor.widths(fakes.image_shape), len(chosen[share]), "fakes", self._show_progress
            )
            rows = gather(agree(work), len(chosen))
            features |= {name: FeatureSet(x, own) for name, x in rows.items()}
        return features

    def compute(self, fakes: dict[str, FeatureSet], failed: dict[str, Exception] | None = None) -> dict[str, float]:
        """Returns the values of all metrics for features that `extract` returned.

        Args:
          fakes: the features.
          failed: gets what a metric raised, by its name, and the others go on; None: the first one that fails raises.
        """
        return self._compute_all(self.metrics, fakes, failed)

    def _compute_all(self, metrics: dict[str, Metric], fakes, failed) -> dict[str, float]:
        results = {}
        for name, metric in metrics.items():
            try:
                if metric.reference is not None and not self.statistics:
                    self._real_features  # noqa: B018, all processes extract them together
                results |= agree(functools.partial(self._compute, name, metric, fakes[metric.features]))
            except Exception as error:
                if failed is None or (jax.process_count() > 1 and not isinstance(error, Agreed)):
                    raise  # with several processes anything else is the loss of one
                failed[name] = error
        return results

    def _compute(self, name: str, metric: Metric, fakes: FeatureSet) -> dict[str, float]:
        """Returns the values of one metric."""
        with self._naming(name):
            values = metric.compute(fakes, self._reference(name), self.protocol)
        keys = metric.keys
        if metric.class_key:
            *values, by_class = values
            values = [*values, *by_class.values()]
            keys = [*keys, *map(metric.class_key.format, by_class)]
        right = f"its compute must return a number for each of {', '.join(keys)}"
        many = np.ndim(values) == 1 and len(values) == len(keys) and np.issubdtype(np.asarray(values).dtype, np.number)
        require(many, f"METRICS[{name!r}]", values, right)
        return {key: float(value) for key, value in zip(keys, values, strict=True)}

    def check(self, fakes: Generator | Dataset) -> np.ndarray | None:
        """Returns the labels of the fakes, int32 [num], or None where they have none; computes nothing else.

        Raises:
          ConfigError: the fakes are too few, of another size than the reals, or without labels that a metric takes.
        """
        n, sampled = self.protocol.num, isinstance(fakes, Generator)
        require(sampled or len(fakes) >= n, self._setting("num"), n, f"there are {0 if sampled else len(fakes)} images")
        if self.reals is not None and tuple(self.reals.image_shape[:2]) != tuple(fakes.image_shape[:2]):
            size, other = ("x".join(map(str, d.image_shape[:2])) for d in (fakes, self.reals))
            right = f"has images of {other} pixels, which cannot be compared with those of {size} pixels"
            require(False, self._setting("reals"), self.reals_name, right)
        self._check_memory(fakes.image_shape)
        labels = None
        if fakes.num_classes:
            labels = self._sample_labels(fakes) if sampled else fakes.labels[:n]
        for name in self.metrics:
            self._check_labels(name, labels)
        return labels

    def real_gaussians(self) -> dict[str, Gaussian]:
        """Returns what `write_statistics` takes, {features: Gaussian}.

        Raises:
          ConfigError: a metric is no Fréchet distance, or they are of features that no file tells apart.
        """
        gaussians = {}
        for name, metric in self.metrics.items():
            right = "is no Fréchet distance, for which alone mu and sigma are enough"
            require(metric.is_frechet, self._setting("metrics"), name, right)
            gaussians[metric.features] = self._reference(name)
        names = ", ".join(gaussians)
        right = f"have features of their own ({names}); a file has one kind, and beside it {SPATIAL}"
        fits = len(gaussians.keys() - {SPATIAL}) <= 1
        require(fits, self._setting("metrics"), ",".join(self.metrics), right)
        return gaussians

    def nearest_reals(self, fakes: dict[str, FeatureSet], n: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the n fakes that are nearest to a real, nearest first, and these reals: two arrays of indices [n].

        Distances are between the features of the first metric that compares images with reals.

        Raises:
          ConfigError: no metric does.
        """
        comparing = (metric.features for metric in self.metrics.values() if metric.reference and metric.pairs)
        name = next(comparing, None)
        names = ",".join(self.metrics)
        require(name is not None, self._setting("metrics"), names, "none compares with reals, as authpct_cifar does")
        index, distance = (x[:, 0] for x in nearest(fakes[name].features, self._real_features[name].features))
        closest = np.argsort(distance, kind="stable")[:n]
        return closest, self._real_indices[index[closest]] % len(self.reals)

    def samples(self, generator: Generator, indices: np.ndarray) -> np.ndarray:
        """Returns some of the samples that `evaluate` looks at, uint8 [n, H, W, C]."""
        n, seed = self.protocol.num, self.protocol.seed
        z, _, keys = (x[indices] for x in generator.latents(n, seed))
        return self._with_statistics(generator).generate(z, self._sample_labels(generator)[indices], keys)

    def describe(self) -> dict:
        """Returns what the values depend on, for the record, as JSON can hold it."""
        p = self.protocol
        n_real, reals = 0, "none"
        if self.reals is not None:
            n_real, reals = len(self._real_indices), self.reals_name
        elif self.statistics:
            n_real, reals = self.statistics.n, f"mu and sigma in {self.statistics.path}"
        foreign = "cifar" in self.networks and reals not in ("none", "cifar10")
        return {
            "n_fake": p.num,
            "n_real": n_real,
            "reals": reals,
            "split": p.split,
            "flips": p.flips,
            "is_splits": p.is_splits,
            "seed": p.seed,
            "networks": {n.name: {"weights": n.weights, "resize": n.resize} for n in self.networks.values()},
        } | ({"worth": FOREIGN} if foreign else {})

    def _reference(self, name: str) -> Any:
        """Returns what a metric compares with, computed once; None if with nothing."""
        metric = self.metrics[name]
        if name not in self._references and metric.reference is not None:
            if self.statistics:
                self._references[name] = self._read_statistics(metric.features)
            else:
                self._references[name] = metric.reference(self._real_features[metric.features])
        return self._references.get(name)

    def _read_statistics(self, features: str) -> Gaussian:
        width = self._extractors[0].widths((32, 32, 3))[features]  # which is that of any size
        try:
            return self.statistics.of(features, width)
        except ValueError as error:
            raise ConfigError(f"{self._setting('reals')}={self.statistics.path!r}: {error}") from error

    @functools.cached_property
    def _real_features(self) -> dict[str, FeatureSet]:
        comparing = [metric for metric in self.metrics.values() if metric.reference]
        what = f"reals ({self.reals_name})"
        return self._features_of(self.reals, self._real_indices, self._real_labels, comparing, what)

    def _features_of(
        self, dataset: Dataset, indices: np.ndarray, labels: np.ndarray | None, metrics: Iterable[Metric], what: str
    ) -> dict[str, FeatureSet]:
        """Returns the features that some metrics take of real images, from the cache as far as they are in it."""
        names, features = {metric.features for metric in metrics}, {}
        for most, every in self._extractors.items():
            if needed := names.intersection(every.names):
                extractor = FeatureExtractor(self.networks, needed, every.batch_size)
                chosen = _chosen(len(indices), most)
                rows = cached_features(dataset, indices[chosen], extractor, what, self._show_progress)
                own = None if labels is None else labels[chosen]
                features |= {name: FeatureSet(x, own) for name, x in rows.items()}
        return features

    @functools.cached_property
    def _real_indices(self) -> np.ndarray:
        n = len(self.reals)
        indices = evenly_spaced(n, self.protocol.num_reals or n)
        return np.concatenate([indices, n + indices]) if self.protocol.flips else indices

    @functools.cached_property
    def _real_labels(self) -> np.ndarray | None:
        return self.reals.labels[self._real_indices % len(self.reals)] if self.reals.num_classes else None

    def _sample_labels(self, generator: Generator) -> np.ndarray:
        among = None
        if generator.num_classes and self.reals is not None and self.reals.num_classes:
            right = f"have {self.reals.num_classes} classes, the generator {generator.num_classes}"
            fits = self.reals.num_classes <= generator.num_classes
            require(fits, self._setting("reals"), self.reals_name, right)
            among = self.reals.labels
        return generator.labels(self.protocol.num, self.protocol.seed, among)

    def _with_statistics(self, generator: Generator) -> Generator:
        batches, seed = self.protocol.standing_batches, self.protocol.seed
        measured = batches and generator.has_batch_norm
        return generator.with_standing_statistics(batches, seed=seed) if measured else generator

    def _check_reals(self) -> None:
        if self.reals is not None:
            n, there = self.protocol.num_reals, len(self.reals)
            require(n <= there, self._setting("num_reals"), n, f"there are {there} reals")
        for name, metric in self.metrics.items():
            if metric.reference is None:
                continue
            if self.statistics:
                right = f"{name} compares images, of which these are only the mean and covariance"
                require(metric.is_frechet, self._setting("reals"), self.statistics.path, right)
                continue
            require(self.reals is not None, self._setting("reals"), None, f"{name} compares with reals; give some")
            n, right = len(self._real_indices), f"{name} takes at least {metric.min_reals} reals"
            require(n >= metric.min_reals, self._setting("reals"), self.reals_name, f"{right}, there are {n}")
            right = f"have no labels, which {name} takes"
            labelled = metric.check_labels is None or self.reals.num_classes > 0
            require(labelled, self._setting("reals"), self.reals_name, right)

    def _check_labels(self, name: str, labels: np.ndarray | None) -> None:
        metric = self.metrics[name]
        if metric.check_labels is not None:
            right = "takes the classes of the images, and these have no labels"
            require(labels is not None, self._setting("metrics"), name, right)
            with self._naming(name):
                metric.check_labels(labels, self._real_labels if metric.reference else None)

    def _check_memory(self, image_shape: tuple[int, ...]) -> None:
        """Raises a ConfigError where a network does not take such images, or the features of the fakes are more than
        memory.
        """
        for name, metric in self.metrics.items():
            right = f"takes grey images or RGB, and these have {image_shape[2]} channels"
            good = image_shape[2] in (1, 3) or not self.networks[metric.features.split("/")[0]].colours
            require(good, self._setting("metrics"), name, right)
        n, numbers = self.protocol.num, 0
        for most, extractor in self._extractors.items():
            with self._naming(",".join(k for k, metric in self.metrics.items() if metric.features in extractor.names)):
                numbers += min(n, most or n) * sum(extractor.widths(image_shape).values())
        require_memory(self._setting("num"), n, 4 * numbers, "the features")

    def _load_networks(self, names: set[str], weights: dict[str, str]) -> dict:
        networks = {}
        for name in sorted(names):
            given = weights.get(name) or None
            try:
                networks[name] = NETWORKS[name](given)
            except (ValueError, FileNotFoundError) as error:
                where = f"{self._setting(f'{name}_weights')}={given!r}: " if given else ""
                raise ConfigError(f"{where}{error}") from error
        return networks

    @contextlib.contextmanager
    def _naming(self, metric: str):
        """Makes a ConfigError that names the metric of what it does not accept."""
        try:
            yield
        except ValueError as error:
            raise ConfigError(f"{self._setting('metrics')}={metric}: {error}") from error


def _chosen(n: int, most: int) -> np.ndarray:
    """Returns the images that a network looks at of n: all, or as many as it takes, evenly spaced."""
    return evenly_spaced(n, most or n)
