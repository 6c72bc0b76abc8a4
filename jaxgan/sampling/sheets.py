"""Contact sheets: the pictures that one looks at a generator with, and the arrays that they were made from."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgan.core.errors import ConfigError, require_whole
from jaxgan.sampling.directions import semantic_directions, traverse
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.inversion import invert
from jaxgan.sampling.pictures import read_images


class Sheet(NamedTuple):
    """Images for a grid, row by row."""

    images: np.ndarray  # uint8 [N, H, W, C]
    columns: int
    arrays: dict[str, np.ndarray]  # what else is known of the images: their labels, latents, ...
    titles: tuple[str, ...] = ()  # what stands above the columns


def samples(generator: Generator, num: int, columns: int = 0, *, seed=0, labels=None, truncation=None) -> Sheet:
    """Returns `num` samples in so many columns (0: a square); `labels` are used one after the other."""
    require_whole("num", num, 1)
    require_whole("columns", columns)
    labels = _repeat(generator, labels, num)
    z, labels, keys, psi = generator.inputs(num, seed, labels, truncation)
    images = generator.generate(z, labels, keys, psi)
    return Sheet(images, columns or math.ceil(num**0.5), {"labels": np.asarray(labels)})


def classes(generator: Generator, rows: int, columns: int = 0, *, seed=0, truncation=None) -> Sheet:
    """Returns rows of samples with a class in each column (0: as many columns as classes)."""
    columns = columns or max(generator.num_classes, 1)
    labels = generator.class_columns(rows, columns)
    sheet = samples(generator, len(labels), columns, seed=seed, labels=labels, truncation=truncation)
    return sheet._replace(titles=generator.column_titles(columns))


def interpolations(
    generator: Generator, rows: int, columns: int = 0, *, seed=0, labels=None, truncation=None, space="z"
) -> Sheet:
    """Returns rows that walk from one sample to another in so many columns (0: 10), see `Generator.interpolate`."""
    require_whole("rows", rows, 1)
    columns = columns or 10
    images = generator.interpolate(rows, columns, seed, _repeat(generator, labels, rows), truncation, space)
    return Sheet(images, columns, {})


def semantics(
    generator: Generator, k: int, columns: int = 0, *, seed=0, labels=None, truncation=None, extent=3.0, layers=None
) -> Sheet:
    """Returns k rows that move sample 0 along a semantic direction each, in so many columns (0: 7), see `traverse`."""
    columns = columns or 7
    labels = None if labels is None else generator.check_labels(labels)
    layers = _integers("layers", layers)
    directions, strengths = semantic_directions(generator, k, layers)
    options = dict(extent=extent, seed=seed, label=labels, truncation=truncation, layers=layers)
    images = traverse(generator, directions, columns, **options)
    return Sheet(images, columns, {"directions": directions, "strengths": strengths})


def inversions(
    generator: Generator, path, columns: int = 0, *, seed=0, labels=None, steps=500, features: Callable | None = None
) -> Sheet:
    """Returns the images of a path and, beside each, the nearest that the generator can make, see `invert`.

    `path` is as in `read_images`; 0 columns are 2.
    """
    targets = read_images(path, generator.image_shape[:2], generator.image_shape[2])
    found = invert(
        generator, targets, steps, features=features, seed=seed, labels=_repeat(generator, labels, len(targets))
    )
    pairs = np.stack([targets, found.images], axis=1).reshape(-1, *targets.shape[1:])
    arrays = {"latents": found.latents, "labels": found.labels, "distances": found.distances}
    return Sheet(pairs, columns or 2, arrays)


def _integers(name: str, values) -> np.ndarray | None:
    """Returns values as an array; a command line has integers as strings."""
    try:
        array = np.asarray(values)
        return None if values is None else array.astype(np.int64) if array.dtype.kind == "U" else array
    except ValueError as error:
        raise ConfigError(f"{name}={values}: give whole numbers, such as 0,1,2") from error


def _repeat(generator: Generator, labels, n: int) -> np.ndarray | None:
    """Returns n labels, the given ones one after the other, again and again."""
    return None if labels is None else np.resize(generator.check_labels(labels), n)
