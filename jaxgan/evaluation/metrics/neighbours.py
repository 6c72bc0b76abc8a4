"""Nearest neighbours among features by Euclidean distance, exact and in little memory.

All pairs are compared in float32, on the accelerator if there is one, in blocks of rows; float64 takes twice as long on
a CPU, and most accelerators do not have it. What float32 does not decide for certain is decided in float64 on the host:
few pairs, so that ties are ties and results do not depend on blocks or backend.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan.evaluation.metrics.checks import check_features, check_labels

_PAIRS = 2**24  # distances at most at once, 64 MiB of float32
_SPARE = 3  # further candidates for a neighbour, which float64 then ranks


def nearest(
    features: np.ndarray,
    reference: np.ndarray,
    k: int = 1,
    skip: np.ndarray | None = None,
    block_rows: int = 1024,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k nearest rows of `reference` [m, d] to each row of features [n, d]: index and distance, [n, k] each.

    They are in order, nearest first. Distances are float64 and exact for the rows that are named; of rows whose
    distances differ by rounding errors of float32 any may be named.

    Args:
      features, reference: float [n, d] and [m, d].
      k: how many neighbours.
      skip: int [n], for each row of features one row of the reference that does not count, such as itself.
      block_rows: rows of features that are compared at once.

    Raises:
      ValueError: fewer than k rows of the reference count, another width, or NaN.
    """
    features, reference = as_pair(features, reference, (1, k + (skip is not None)))
    if k < 1:
        raise ValueError(f"nearest needs k >= 1, not {k}")
    candidates = min(k + _SPARE, len(reference) - (skip is not None))
    skip = np.full(len(features), -1) if skip is None else check_labels(skip, len(features), "rows to skip")
    (queries, columns), _ = to_device(features, reference)
    index = np.empty((len(features), k), np.int64)
    distance = np.empty((len(features), k))
    for rows in row_blocks(len(features), len(reference), block_rows):
        found = np.asarray(_closest(queries[rows], columns, skip[rows], candidates))  # [rows, candidates]
        exact = distances(features, reference, np.arange(rows.start, rows.stop)[:, None], found)
        best = np.argsort(exact, axis=1, kind="stable")[:, :k]
        index[rows] = np.take_along_axis(found, best, axis=1)
        distance[rows] = np.take_along_axis(exact, best, axis=1)
    return index, distance


def as_pair(features, reference, least: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as checked arrays [n, d] and [m, d], each with at least so many rows."""
    features = check_features(features, least=least[0])
    return features, check_features(reference, "reference features", least[1], features.shape[1])


def row_blocks(rows: int, columns: int, block_rows: int) -> list[slice]:
    """Returns slices that cut `rows` into blocks of `block_rows`, or fewer where there are too many `columns`."""
    size = max(1, min(block_rows, _PAIRS // columns))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def to_device(x: np.ndarray, y: np.ndarray) -> tuple[tuple[jax.Array, jax.Array], float]:
    """Returns x and y in float32 on the device, around the mean of y and in a unit, and that unit.

    Around the mean distances lose the fewest digits; the unit, the range of the values, keeps squares within the range
    of float32.
    """
    centre = y.mean(axis=0, dtype=np.float64)
    unit = max(float(z.max()) - float(z.min()) for z in (x, y)) or 1.0

    def move(z):
        moved = np.subtract(z, centre, out=np.empty(z.shape, np.float32), casting="same_kind")  # computed in float64
        moved /= np.float32(unit)
        return jnp.asarray(moved)

    columns = move(y)
    return (columns if x is y else move(x), columns), unit


def squared_distances(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the squared distances of rows x [n, d] to y [m, d], float32 [n, m], and how wrong each may be.

    A sum of d rounded products errs by about sqrt(d) roundings of half an epsilon (Higham & Mary 2019); the bound is
    four times that, with some more for the operations before and after.
    """
    x2, y2 = jnp.sum(jnp.square(x), axis=1)[:, None], jnp.sum(jnp.square(y), axis=1)
    squared = x2 + y2 - 2.0 * jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)
    bound = (4.0 + 2.0 * x.shape[1] ** 0.5) * jnp.finfo(jnp.float32).eps
    return squared, bound * (x2 + y2)


def distances(x: np.ndarray, y: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Returns the distances of x[i] to y[j], float64, for row numbers i and j of shapes that broadcast."""
    i, j = np.broadcast_arrays(i, j)
    found = [np.empty(0)]
    for start in range(0, i.size, 1024):
        part = slice(start, start + 1024)
        apart = np.subtract(x[i.ravel()[part]], y[j.ravel()[part]], dtype=np.float64)
        found.append(np.sqrt(np.einsum("nd,nd->n", apart, apart)))
    return np.concatenate(found).reshape(i.shape)


@partial(jax.jit, static_argnames="k")
def _closest(x, y, skip, k):
    """Returns the numbers [n, k] of the rows of y [m, d] nearest to each row of x [n, d], but row `skip` [n]."""
    squared, _ = squared_distances(x, y)
    return lax.top_k(-jnp.where(jnp.arange(len(y)) == skip[:, None], jnp.inf, squared), k)[1]
