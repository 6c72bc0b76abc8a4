"""Fréchet distances between Gaussians fitted to features: FID, FID without bias, and FID for each class.

The name FID is for the features of Inception-v3 (Heusel et al. 2017); the formulas take any features. All is float64.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from jaxgan.evaluation.metrics.checks import check_features, check_labels


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Is a normal distribution with a mean [d] and a covariance [d, d], which may be singular.

    Raises:
      ValueError: other shapes, numbers that are not finite, or a covariance that is not symmetric or has a negative
        eigenvalue beyond rounding (the last one only when a distance is asked for).
    """

    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "mean", np.asarray(self.mean, np.float64))
        object.__setattr__(self, "covariance", np.asarray(self.covariance, np.float64))
        if self.mean.ndim != 1 or self.covariance.shape != 2 * self.mean.shape:
            shapes = f"{self.mean.shape} and {self.covariance.shape}"
            raise ValueError(f"a Gaussian needs a mean [d] and a covariance [d, d], not of shapes {shapes}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise ValueError("the mean and the covariance of a Gaussian must be finite")
        if np.abs(self.covariance - self.covariance.T).max() > 1e-6 * np.abs(self.covariance).max():
            raise ValueError("a covariance must be symmetric")

    @cached_property
    def factor(self) -> np.ndarray:
        """F [d, r] with F F' = covariance, where r is its rank, by Cholesky with pivots; computed once."""
        lower, pivots, rank, _ = linalg.lapack.dpstrf(self.covariance, lower=1)
        factor = np.empty((len(self.mean), rank))
        factor[pivots - 1] = np.tril(lower)[:, :rank]
        variance = np.trace(self.covariance)
        if abs(variance - np.square(factor).sum()) > 1e-4 * abs(variance):
            raise ValueError("a covariance must have no negative eigenvalues")
        return factor


class Moments:
    """Measures the mean and covariance of features that come in batches, or that several workers have parts of.

    Deviations are taken from each batch's own mean and joined by the formula of Chan, Golub & LeVeque (1979), so a mean
    that is large against the deviations costs no digits. Batches of thousands are the fastest, of which `block_rows`
    are in float64 at once. `n` is the number of rows so far.

    Example:
      moments = Moments()
      for batch in batches:
          moments.add(batch)
      frechet_distance(moments.gaussian(), reference)
    """

    def __init__(self, block_rows: int = 4096):
        self.n = 0
        self._block_rows = block_rows
        self._mean = self._scatter = None

    def add(self, features: np.ndarray) -> "Moments":
        """Adds the rows of features [n, d], n >= 1, and returns self; a ValueError for NaN or another width."""
        features = check_features(features, least=1, width=len(self._mean) if self.n else None)
        for start in range(0, len(features), self._block_rows):
            block = features[start : start + self._block_rows].astype(np.float64)
            mean = block.mean(axis=0)
            block -= mean
            self._join(len(block), mean, block.T @ block)
        return self

    def merge(self, other: "Moments") -> "Moments":
        """Adds the rows that `other` has measured, of the same width, and returns self."""
        if self.n and other.n and len(self._mean) != len(other._mean):
            raise ValueError(f"moments of {len(self._mean)} and of {len(other._mean)} columns cannot be merged")
        if other.n:
            self._join(other.n, other._mean, other._scatter)
        return self

    def gaussian(self) -> Gaussian:
        """Returns the Gaussian with the mean and the unbiased covariance of the rows, at least 2."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows of features, not {self.n}")
        return Gaussian(self._mean.copy(), self._scatter / (self.n - 1))

    def _join(self, n, mean, scatter):
        if not self.n:
            self.n, self._mean, self._scatter = n, mean.copy(), scatter.copy()
            return
        total = self.n + n
        shift = mean - self._mean
        self._scatter += scatter
        self._scatter += np.outer(shift * (self.n * n / total), shift)
        self._mean += shift * (n / total)
        self.n = total


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Returns |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) >= 0, squared Fréchet (Dowson & Landau 1982).

    With C = F F', the eigenvalues of C_a C_b are the squared singular values of F_a' F_b. Those come without the
    square root of a rounding error, which would be 1e-8 rather than 1e-16 for each of thousands of directions where
    covariances of few examples are singular, and are never complex. The factors are kept by the Gaussians.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"Gaussians in {len(a.mean)} and in {len(b.mean)} dimensions have no distance")
    root = linalg.svdvals(a.factor.T @ b.factor).sum() if min(a.factor.shape[1], b.factor.shape[1]) else 0.0
    means = np.square(a.mean - b.mean).sum()
    return max(0.0, float(means + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * root))


def frechet_infinity(
    features: np.ndarray, reference: Gaussian, sizes: int = 15, smallest: int = 5000, seed: int = 0
) -> float:
    """Returns the Fréchet distance to `reference` that infinitely many rows like features [n, d] would have.

    The distance of n rows is too large by about c / n, where c differs between generators. As in Chong & Forsyth (2020)
    a line in 1 / n through the distances of random subsets is extended to 1 / n = 0. The estimate is unbiased, so it
    may be below 0 where the distance is about 0.

    Args:
      features: float [n, d].
      reference: the Gaussian of the reals.
      sizes: number of subsets, of sizes from `smallest` to n, evenly spaced; at least 2.
      smallest: rows in the smallest subset, 2 <= smallest < n.
      seed: draws the subsets. They are independent: nested ones would cost less, but have 1.3 times the standard
        deviation.

    Raises:
      ValueError: another width, NaN, or sizes out of their range.
    """
    features = check_features(features, width=len(reference.mean))
    n = len(features)
    if not (2 <= smallest < n and sizes >= 2):
        need = f"sizes >= 2 and 2 <= smallest < {n}, the number of rows"
        raise ValueError(f"an extrapolation needs {need}, not sizes={sizes} and smallest={smallest}")
    draws = np.random.Generator(np.random.Philox(seed))
    counts = np.linspace(smallest, n, sizes).astype(int)
    subsets = (Moments().add(features[draws.permutation(n)[:count]]) for count in counts)
    distances = [frechet_distance(subset.gaussian(), reference) for subset in subsets]
    return float(np.polyfit(1.0 / counts, distances, 1)[1])


def frechet_per_class(
    features: np.ndarray, labels: np.ndarray, reference: np.ndarray, reference_labels: np.ndarray
) -> tuple[float, dict[int, float]]:
    """Returns the distance of each class's features [n, d] from its `reference` [m, d]: mean, and {class: distance}.

    This is intra-class FID (Miyato & Koyama 2018). Compare values of equally many rows a class only: the bias is that
    of a class's rows, for ten classes ten times that of the whole set.

    Raises:
      ValueError: `labels` int [n] and `reference_labels` int [m] do not have the same classes, each with at least 2
        rows on both sides.
    """
    features = check_features(features)
    reference = check_features(reference, "reference features", width=features.shape[1])
    labels = check_labels(labels, len(features))
    reference_labels = check_labels(reference_labels, len(reference), "reference labels")
    check_classes(labels, reference_labels)
    each = {}
    for label in np.unique(labels):
        parts = features[labels == label], reference[reference_labels == label]
        each[int(label)] = frechet_distance(*(Moments().add(rows).gaussian() for rows in parts))
    return float(np.mean(list(each.values()))), each


def check_classes(labels: np.ndarray, reference_labels: np.ndarray) -> None:
    """Raises a ValueError unless labels, int [n] and int [m], have the same classes, at least 2 rows of each."""
    for label in np.unique(np.concatenate([labels, reference_labels])):
        counts = [np.count_nonzero(rows == label) for rows in (labels, reference_labels)]
        if min(counts) < 2:
            raise ValueError(f"class {label} has {counts[0]} rows and {counts[1]} in the reference; it needs 2 in each")
