"""Evaluates a generator or a set of images in one call."""

import os
from collections.abc import Iterable

import numpy as np

from jaxgan.core.errors import lookup, require
from jaxgan.core.files import as_path
from jaxgan.core.processes import require_devices
from jaxgan.core.words import nearest
from jaxgan.data import ArrayDataset, Dataset, check_dataset, open_images
from jaxgan.evaluation.evaluator import Evaluator
from jaxgan.evaluation.protocol import PROTOCOLS, Protocol
from jaxgan.evaluation.reference import Statistics, read_statistics
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
    **changes: int | str | bool,
) -> dict[str, float]:
    """Returns the values of metrics, by their results' names.

    Args:
      generator_or_images: a generator, such as `jaxgan.load(path)`; or images: an array uint8 [N, H, W, C] (or floats
        in 0..1), the path of images, see `open_images`, or a data set.
      reals: images to compare with, as above, or an .npz with their `mu` and `sigma`; None where no metric needs any.
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
        right = f"choose one of {', '.join(Protocol._fields)}{nearest(name, Protocol._fields)}"
        require(name in Protocol._fields, name, value, right)
    fakes = generator_or_images
    if not isinstance(fakes, Generator):
        fakes = _as_dataset(fakes, "generator_or_images")
        whole = whole._replace(num=len(fakes))
    if num is not None:
        whole = whole._replace(num=num)
    evaluator = Evaluator(
        [metrics] if isinstance(metrics, str) else metrics,
        whole._replace(**changes),
        _as_reals(reals),
        weights=weights,
        batch_size=batch_size,
        show_progress=show_progress,
    )
    return evaluator.evaluate(fakes)


def _as_reals(reals) -> Dataset | Statistics | None:
    if isinstance(reals, str | os.PathLike):
        return read_statistics(reals) or _as_dataset(reals, "reals")
    return None if reals is None else _as_dataset(reals, "reals")


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
