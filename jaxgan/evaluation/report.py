"""Evaluates what a person names, a run's checkpoints or files of images, and reports it with all that it depends on."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxgan import data
from jaxgan.core.errors import ConfigError, RunFailed, require, summary
from jaxgan.core.shapes import as_image_size
from jaxgan.evaluation.evaluator import Evaluator
from jaxgan.evaluation.protocol import PROTOCOLS, Protocol, describe_protocol
from jaxgan.evaluation.reference import Statistics, read_statistics, write_statistics
from jaxgan.evaluation.registry import METRICS, check_metrics
from jaxgan.sampling import pictures
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.load import choose_steps, load
from jaxgan.settings import default_config, images_per_step

PAIRS = 32  # in the picture of neighbours


class Report(NamedTuple):
    """Values of metrics, and all that they depend on; `str` makes a table of it."""

    subject: dict
    values: dict[str, float]
    protocol: dict
    failed: Mapping[str, Exception] = MappingProxyType({})  # what metrics without values raised

    def to_json(self) -> str:
        """Returns one line of JSON, null where a value is not finite."""
        values = {name: value if math.isfinite(value) else None for name, value in self.values.items()}
        return json.dumps(self.subject | {"scores": values, "protocol": self.protocol})

    def __str__(self) -> str:
        title = "  ".join(v if isinstance(v, str) else f"{name} {v:,g}" for name, v in self.subject.items())
        rows = {}
        for name, value in self.values.items():
            if not name.endswith("_std"):
                std = self.values.get(f"{name}_std")
                rows[name] = f"{value:.5g}" + ("" if std is None else f" +- {std:.2g}")
        for name, value in self.protocol.items():
            if name == "networks":
                weights = {key: f"weights {net['weights'][:8]}, " * bool(net["weights"]) for key, net in value.items()}
                rows |= {key: weights[key] + net["resize"] for key, net in value.items()}
            else:
                rows[name] = f"{value:,}" if type(value) is int else str(value)
        width = max(map(len, rows))
        return "\n".join([title, *(f"  {name:{width}}  {value}" for name, value in rows.items())])


def require_computed(failed: dict[str, Exception]) -> None:
    """Raises RunFailed, which names the metrics, if some failed."""
    if failed:
        reasons = "; ".join(f"{name} ({summary(error)})" for name, error in failed.items())
        raise RunFailed(f"not all metrics could be computed: {reasons}") from next(iter(failed.values()))


def evaluate_run(
    path: str,
    metrics: Iterable[str] | None,
    protocol: str,
    changes: dict,
    *,
    sigma_rel: float | None = None,
    reals: str | None = None,
    data_changes: dict | None = None,
    weights: dict[str, str] | None = None,
    neighbours: str | None = None,
    save_reference: str | None = None,
) -> Iterator[Report]:
    """Yields a report of each checkpoint of a run that the protocol's `step` chooses, a number, newest, best or all.

    Args:
      path: the run, its directory of checkpoints or one checkpoint.
      metrics: names in `METRICS`; None: those of the run's config.
      protocol: a name in `PROTOCOLS`.
      changes: fields of the protocol to change.
      sigma_rel: see `load`.
      reals: what to compare with: a path as for `open_images`, or a name in `jaxgan.DATASETS`; None: the run's images.
      data_changes: settings of config.data to change for the reals; a value of None changes nothing.
      weights: see `Evaluator`.
      neighbours: FILE.png for the samples of the last checkpoint that are nearest to a real, each beside that real.
      save_reference: FILE.npz for the mean and covariance of the reals' features.
    """
    choices = PROTOCOLS[protocol]._replace(**changes)
    check_metrics(metrics or [], choices, "--{}".format)  # as far as they are known without the run
    try:
        steps = choose_steps(path, choices.step)
        first = load(path, steps[0][0], sigma_rel)
    except (ValueError, OSError) as error:
        raise ConfigError(error) from error
    metrics = _require_metrics(metrics or first.config.eval.metrics, neighbours)
    if changes.get("standing_batches"):
        right = "the net has no batch norm; give 0"
        require(first.has_batch_norm, "--standing_batches", choices.standing_batches, right)
    named = None, "none"
    if reals or _compares(metrics) or (first.num_classes and first.config.data.name):  # a converted run names no data
        named = open_reals(reals, first.config.data, choices.split, data_changes)
    evaluator = _evaluator(metrics, choices, named, weights, neighbours, save_reference)
    for step, rule in steps:
        generator = first if step in (None, first.step) else load(path, step, sigma_rel)
        features = evaluator.extract(generator)
        kimg = generator.step * images_per_step(generator.config) / 1e3
        record = {"protocol": describe_protocol(protocol, choices)} | evaluator.describe() | {
            "checkpoint": rule,
            "ema": _describe_ema(generator.config.ema) + ", post-hoc" * (sigma_rel is not None),
            "batch_norm": _describe_batch_norm(generator, choices),
            "truncation": "none",
            "labels": _describe_labels(generator, evaluator),
        }  # fmt: skip
        subject, failed = {"run": path, "step": generator.step, "kimg": kimg}, {}
        yield Report(subject, evaluator.compute(features, failed), record, failed)
    if neighbours:
        save_neighbours(neighbours, evaluator, features, lambda indices: evaluator.samples(generator, indices))


def evaluate_images(
    path: str,
    metrics: Iterable[str] | None,
    protocol: str,
    changes: dict,
    *,
    reals: str | None = None,
    data_changes: dict | None = None,
    weights: dict[str, str] | None = None,
    neighbours: str | None = None,
    save_reference: str | None = None,
) -> Report:
    """Returns a report of the images at a path, see `open_images`; the arguments are those of `evaluate_run`."""
    for name, right in (("step", "have no checkpoints"), ("standing_batches", "have no batch norm")):
        require(name not in changes, f"--{name}", changes.get(name), f"--images {right}")
    metrics, named = _require_metrics(metrics, neighbours), (None, "none")
    check_metrics(metrics, PROTOCOLS[protocol]._replace(**changes), "--{}".format)
    images = data.open_images(path, "--images")
    choices = PROTOCOLS[protocol]._replace(**{"num": len(images)} | changes)
    if reals or _compares(metrics):
        own = default_config().data
        own.name, own.image_size = "", as_image_size(*images.image_shape[:2])
        named = open_reals(reals, own, choices.split, data_changes)
    evaluator = _evaluator(metrics, choices, named, weights, neighbours, save_reference)
    features = evaluator.extract(images)
    record = {"protocol": describe_protocol(protocol, choices)} | evaluator.describe()
    failed = {}
    report = Report({"images": path}, evaluator.compute(features, failed), record, failed)
    if neighbours:
        save_neighbours(neighbours, evaluator, features, lambda indices: images.get(indices)[0])
    return report


def evaluate_nothing(
    metrics: Iterable[str] | None,
    protocol: str,
    changes: dict,
    *,
    reals: str,
    save_reference: str,
    neighbours: None = None,
    data_changes: dict | None = None,
    weights: dict[str, str] | None = None,
) -> None:
    """Writes the mean and covariance of the reals' features to a file; see `evaluate_run` for the arguments."""
    require(neighbours is None, "--neighbours", neighbours, "takes images, --workdir or --images, to look at")
    metrics, choices = _require_metrics(metrics, None), PROTOCOLS[protocol]._replace(**changes)
    check_metrics(metrics, choices, "--{}".format)
    named = open_reals(reals, default_config().data, choices.split, data_changes)
    _evaluator(metrics, choices, named, weights, None, save_reference)


def _evaluator(metrics, choices: Protocol, named: tuple, weights, neighbours, save_reference) -> Evaluator:
    """Returns what compares with the reals and their name, `named`, after writing their statistics if that is asked."""
    right = "takes images to look for them in, and --reals has only mu and sigma"
    require(not (neighbours and isinstance(named[0], Statistics)), "--neighbours", neighbours, right)
    evaluator = Evaluator(metrics, choices, named[0], reals_name=named[1], weights=weights, setting="--{}".format)
    if save_reference:
        gaussians, n = evaluator.real_gaussians(), evaluator.describe()["n_real"]
        write_statistics(save_reference, gaussians, n)
        print(f"mu and sigma of {n:,} images ({', '.join(gaussians)}): {save_reference}")
    return evaluator


def open_reals(name: str | None, own, split: str, changes: dict | None = None) -> tuple[data.Dataset | Statistics, str]:
    """Returns the data set to compare with, or the statistics of one, and its name.

    Args:
      name: a path of images, see `open_images`, an .npz with mu and sigma, or a name in `jaxgan.DATASETS`; None:
        `own.name`.
      own: a section config.data.
      split: of a named data set.
      changes: settings of config.data to change; a value of None changes nothing.
    """
    if name and (statistics := read_statistics(name, "--reals")):
        return statistics, name
    if name and data.names_images(name, "--reals"):
        return data.open_images(name, "--reals"), name
    settings = own.copy_and_resolve_references()
    settings.update({key: value for key, value in (changes or {}).items() if value is not None})
    settings.name = name or own.name
    right = "name the directory, archive, FILE.npz or data set to compare the images with"
    require(bool(settings.name), "--reals", name, right)
    return data.load(settings, split), settings.name


def save_neighbours(path: str, evaluator: Evaluator, features: dict, images_at: Callable) -> None:
    """Draws the fakes that are nearest to a real, nearest first, each beside that real, with titles.

    Args:
      path: FILE.png.
      evaluator: what extracted the features.
      features: of the fakes, as `Evaluator.extract` returns them.
      images_at: from indices to the fakes, uint8 [n, H, W, C].
    """
    fakes, reals = evaluator.nearest_reals(features, PAIRS)
    pairs = np.stack([images_at(fakes), data.read(evaluator.reals, reals)[0]], axis=1)
    across = min(4, len(pairs))
    titles = ("fake", "nearest real") * across
    picture = pictures.show_grid(pairs.reshape(-1, *pairs.shape[2:]), 2 * across, evaluator.reals_name, titles)
    pictures.save_png(path, picture)
    print(f"{len(fakes)} fakes, each beside its nearest real: {path}")


def _require_metrics(names: Iterable[str] | None, neighbours: str | None) -> list[str]:
    if not names:
        raise ConfigError(f"--metrics is not given: choose from {', '.join(METRICS)}")
    names = list(names)
    right = f"takes a metric that compares with reals, such as authpct_cifar; {','.join(names)} do not"
    pairs = any(name in METRICS and METRICS[name].reference and METRICS[name].pairs for name in names)
    require(neighbours is None or pairs, "--neighbours", neighbours, right)
    return names


def _compares(metrics: list[str]) -> bool:
    return any(name in METRICS and METRICS[name].reference is not None for name in metrics)


def _describe_labels(generator: Generator, evaluator: Evaluator) -> str:
    if not generator.num_classes:
        return "none"
    return "uniform" if evaluator.reals is None else "drawn from those of the reals"


def _describe_ema(ema) -> str:
    if ema.sigma_rel:
        return f"power function, sigma_rel {ema.sigma_rel:g}"
    if ema.half_life_kimg_schedule != "constant":
        return f"half-life {ema.half_life_kimg:g} kimg, {ema.half_life_kimg_schedule}"
    return f"half-life {ema.half_life_kimg:g} kimg" if ema.half_life_kimg else "none"


def _describe_batch_norm(generator: Generator, protocol: Protocol) -> str:
    if not generator.has_batch_norm:
        return "none"
    batches = protocol.standing_batches
    return f"standing statistics, {batches} x 64" if batches else "running statistics"
