"""Evaluates generators and sets of images: `evaluate` in one call, `Evaluator` where the reals stay the same."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxgan.core.errors import ConfigError, lookup, require, require_whole
from jaxgan.core.files import as_path
from jaxgan.core.memory import require_memory
from jaxgan.core.parallel import Agreed, agree
from jaxgan.core.processes import require_devices
from jaxgan.data import ArrayDataset, Dataset, check_dataset, evenly_spaced, open_images
from jaxgan.evaluation.features import FeatureExtractor, FeatureSet, cached_features, collect, gather, process_share
from jaxgan.evaluation.metrics.neighbours import nearest
from jaxgan.evaluation.networks import NETWORKS
from jaxgan.evaluation.protocol import PROTOCOLS, Protocol
from jaxgan.evaluation.registry import METRICS, Metric, check_metrics
from jaxgan.sampling.generator import Generator


def evaluate(
    generator_or_images: Generator | Dataset | np.ndarray | str | os.PathLike,
    reals: Dataset | np.ndarray | str | os.PathLike | None = None,
    metrics: Iterable[str] | str = ("fid",),
    *,
    num: int | None = None,
    protocol: str = "nvidia",
    weights: dict[str, str] | None = None,
    batch_size: int = 64,
    show_progress: bool = True,
    **changes,
) -> dict[str, float]:
    """Returns the values of metrics, by their results' names.

    Args:
      generator_or_images: a generator, such as `jaxgan.load(path)`; or images: an array uint8 [N, H, W, C] (or floats
        in 0..1), the path of a directory or an .npz, or a data set.
      reals: images to compare with, as above; None where no metric needs any.
      metrics: names in `jaxgan.METRICS`, or one of them.
      num: how many fakes to take, the first ones; None is all images that are given, or the protocol's number of
        samples.
      protocol: a name in `PROTOCOLS`, for everything else that the values depend on.
      weights: files of the weights by network ("inception", "dinov2"), which are downloaded on first use otherwise.
      batch_size: images at a time on each device.
      show_progress: whether to show a bar on stderr.
      **changes: other values of the protocol, such as num_reals=10_000 or flips=True; see `Protocol`.

    Raises:
      ConfigError: something does not fit; the message names the argument. Nothing has been computed then.

    Example:
      generator = jaxgan.load("runs/cifar")
      list(jaxgan.evaluate(generator, "cifar10-train.npz", ["fid", "prdc"], num=10_000))
      ['fid', 'precision', 'recall', 'density', 'coverage']
      inception_score = jaxgan.evaluate(images, metrics=["is"])["is"]
    """
    require_devices()
    whole = lookup(PROTOCOLS, protocol, "protocol")
    for name, value in changes.items():
        require(name in Protocol._fields, name, value, f"choose one of {', '.join(Protocol._fields)}")
    fakes = generator_or_images
    if not isinstance(fakes, Generator):
        fakes = _as_dataset(fakes, "generator_or_images")
        whole = whole._replace(num=len(fakes))
    if num is not None:
        whole = whole._replace(num=num)
    evaluator = Evaluator(
        [metrics] if isinstance(metrics, str) else metrics,
        whole._replace(**changes),
        None if reals is None else _as_dataset(reals, "reals"),
        weights=weights,
        batch_size=batch_size,
        show_progress=show_progress,
    )
    return evaluator.evaluate(fakes)


def _as_dataset(images, setting: str) -> Dataset:
    if isinstance(images, str | os.PathLike):
        path = as_path(images, setting, local=True)
        is_run = (path / "config.json").is_file() and (path / "data.json").is_file()
        require(not is_run, setting, str(images), "is a run; give its generator, jaxgan.load(...)")
        return open_images(images, setting)
    if isinstance(images, np.ndarray):
        return ArrayDataset(images)
    check_dataset(images, setting)
    return images


class Evaluator:
    """Evaluates any number of generators or sets of images by some metrics, against the same reals.

    What depends on the reals alone is computed once, when it is first needed. The processes of a run share the work:
    all must make the same calls, and all have the results.

    Args:
      metrics: names in `METRICS`.
      protocol: what else the values depend on.
      reals: what to compare with; None where no metric needs any.
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
        reals: Dataset | None = None,
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
        self.protocol, self.reals, self.reals_name = protocol, reals, reals_name
        self._setting, self._show_progress = setting, show_progress
        self._references: dict[str, Any] = {}  # what each metric compares with
        self._check_reals()
        features = {metric.features for metric in self.metrics.values()}
        self.networks = self._load_networks({name.split("/")[0] for name in features}, weights or {})
        self._extractor = FeatureExtractor(self.networks, features, batch_size)
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

    def extract(self, fakes: Generator | Dataset) -> dict[str, FeatureSet]:
        """Returns the features of the first `protocol.num` samples or images by their names, for `compute`."""
        labels = self.check(fakes)
        n, seed = self.protocol.num, self.protocol.seed
        widths = self._check_memory(fakes.image_shape)
        index = np.arange(n, dtype=np.int32)[process_share(n)]
        if isinstance(fakes, Generator):
            own = labels if labels is not None else np.zeros(n, np.int32)
            generator = self._with_statistics(fakes)
            parts = self._extractor.from_samples(generator, index, own[process_share(n)], seed)
        else:
            parts = self._extractor.from_images(fakes, index)
        features = gather(agree(lambda: collect(parts, widths, len(index), "fakes", self._show_progress)), n)
        return {name: FeatureSet(rows, labels) for name, rows in features.items()}

    def compute(self, fakes: dict[str, FeatureSet], failed: dict[str, Exception] | None = None) -> dict[str, float]:
        """Returns the values of all metrics for features that `extract` returned.

        Args:
          fakes: the features.
          failed: gets what a metric raised, by its name, and the others go on; None: the first one that fails raises.
        """
        results = {}
        for name, metric in self.metrics.items():
            try:
                if metric.reference is not None:
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
            if metric.reference is not None and name not in self._references:
                self._references[name] = metric.reference(self._real_features[metric.features])
            values = metric.compute(fakes, self._references.get(name), self.protocol)
        keys = metric.keys
        if metric.class_key:
            *values, by_class = values
            values = [*values, *by_class.values()]
            keys = [*keys, *map(metric.class_key.format, by_class)]
        right = f"its compute must return {len(keys)} value(s), {', '.join(keys)}"
        many = np.ndim(values) == 1 and len(values) == len(keys)
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
        labels = None
        if fakes.num_classes:
            labels = self._sample_labels(fakes) if sampled else fakes.labels[:n]
        for name, metric in self.metrics.items():
            if metric.check_labels is not None:
                right = "takes the classes of the images, and these have no labels"
                require(labels is not None, self._setting("metrics"), name, right)
                with self._naming(name):
                    metric.check_labels(labels, self._real_labels if metric.reference else None)
        return labels

    def nearest_reals(self, fakes: dict[str, FeatureSet], n: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the n fakes that are nearest to a real, nearest first, and these reals: two arrays of indices [n].

        Distances are between the features of the first metric that compares with reals.

        Raises:
          ConfigError: no metric does.
        """
        name = next((metric.features for metric in self.metrics.values() if metric.reference), None)
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
        return {
            "n_fake": p.num,
            "n_real": 0 if self.reals is None else len(self._real_indices),
            "reals": "none" if self.reals is None else self.reals_name,
            "split": p.split,
            "flips": p.flips,
            "is_splits": p.is_splits,
            "seed": p.seed,
            "networks": {n.name: {"weights": n.weights, "resize": n.resize} for n in self.networks.values()},
        }

    @functools.cached_property
    def _real_features(self) -> dict[str, FeatureSet]:
        names = {metric.features for metric in self.metrics.values() if metric.reference}
        extractor = FeatureExtractor(self.networks, names, self._extractor.batch_size)
        what = f"reals ({self.reals_name})"
        features = cached_features(self.reals, self._real_indices, extractor, what, self._show_progress)
        return {name: FeatureSet(rows, self._real_labels) for name, rows in features.items()}

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
            require(self.reals is not None, self._setting("reals"), None, f"{name} compares with reals; give some")
            n, right = len(self._real_indices), f"{name} takes at least {metric.min_reals} reals"
            require(n >= metric.min_reals, self._setting("reals"), self.reals_name, f"{right}, there are {n}")
            right = f"have no labels, which {name} takes"
            labelled = metric.check_labels is None or self.reals.num_classes > 0
            require(labelled, self._setting("reals"), self.reals_name, right)

    def _check_memory(self, image_shape: tuple[int, ...]) -> dict[str, int]:
        """Returns the widths of the features; raises a ConfigError where those of the fakes are more than memory."""
        widths, n = self._extractor.widths(image_shape), self.protocol.num
        require_memory(self._setting("num"), n, 4 * n * sum(widths.values()), "the features")
        return widths

    def _load_networks(self, names: set[str], weights: dict[str, str]) -> dict:
        networks = {}
        for name in sorted(names):
            try:
                networks[name] = NETWORKS[name](weights.get(name) or None)
            except ValueError as error:
                raise ConfigError(str(error)) from error
        return networks

    @contextlib.contextmanager
    def _naming(self, metric: str):
        """Makes a ConfigError that names the metric of what it does not accept."""
        try:
            yield
        except ValueError as error:
            raise ConfigError(f"{self._setting('metrics')}={metric}: {error}") from error
