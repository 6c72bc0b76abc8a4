"""Fréchet distances between Gaussians fitted to features: FID, without bias, and for each class.

The name FID is for the features of Inception-v3 (Heusel et al. 2017); the formulas ask for no features in
particular. All is float64.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from jaxgan.evaluation.metrics.checks import check_features, check_labels

_BLOCK = 4096  # rows that are in float64 at once


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution by its mean [d] and covariance [d, d], which may be singular.

    ValueError for other shapes, for what is not finite, and for a covariance that is not symmetric or has a negative
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
        """F [d, r] with F F' = covariance and r its rank, by Cholesky with pivots; computed once."""
        lower, pivots, rank, _ = linalg.lapack.dpstrf(self.covariance, lower=1)
        factor = np.empty((len(self.mean), rank))
        factor[pivots - 1] = np.tril(lower)[:, :rank]
        variance = np.trace(self.covariance)
        if abs(variance - np.square(factor).sum()) > 1e-4 * abs(variance):
            raise ValueError("a covariance must have no negative eigenvalues")
        return factor


class Moments:
    """Mean and covariance of features that come in batches, or that several workers hold a part of each.

    >>> moments = Moments()
    >>> for batch in batches:
    ...     moments.add(batch)
    >>> frechet_distance(moments.gaussian(), reference)

    Deviations are taken from each batch's own mean and joined by the formula of Chan, Golub & LeVeque (1979),
    so a mean that is large against the deviations costs no digits. Batches of thousands are the fastest. `n` is the
    number of rows so far.
    """

    def __init__(self):
        self.n = 0
        self._mean = self._scatter = None

    def add(self, features: np.ndarray) -> "Moments":
        """Counts the rows of features [n, d], n >= 1, as well; returns self. ValueError for NaN or another width."""
        features = check_features(features, least=1, width=len(self._mean) if self.n else None)
        for start in range(0, len(features), _BLOCK):
            block = features[start : start + _BLOCK].astype(np.float64)
            mean = block.mean(axis=0)
            block -= mean
            self._join(len(block), mean, block.T @ block)
        return self

    def merge(self, other: "Moments") -> "Moments":
        """Counts what `other` has counted, of the same width, as well; returns self."""
        if self.n and other.n and len(self._mean) != len(other._mean):
            raise ValueError(f"moments of {len(self._mean)} and of {len(other._mean)} columns cannot be merged")
        if other.n:
            self._join(other.n, other._mean, other._scatter)
        return self

    def gaussian(self) -> Gaussian:
        """The Gaussian of the mean and the unbiased covariance, of at least 2 rows."""
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
    """Squared Fréchet distance |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), >= 0 (Dowson & Landau 1982).

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
    """The Fréchet distance to `reference` that infinitely many rows like features [n, d] would have.

    The distance of n rows is too large by about c / n with a c of its own for each generator. As in Chong & Forsyth
    2020 a line in 1 / n through the distances of `sizes` random subsets, from `smallest` to all rows, is
    extended to 1 / n = 0. Unbiased means also that it may be below 0 for a distance of about 0. `seed` draws the
    subsets, one for each size: nested ones would cost less, but have 1.3 times the standard deviation. ValueError
    unless 2 <= smallest < n and sizes >= 2.
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
    """Mean over the classes, and for each class, of the distance between its features [n, d] and its `reference`.

    Intra-class FID (Miyato & Koyama 2018). `labels` int [n] and `reference_labels` int [m] must be of the
    same classes, each with at least 2 rows on both sides, else ValueError. Compare only figures of equally many rows
    a class: the bias is that of a class's rows, ten times that of the whole set for ten classes.
    """
    features = check_features(features)
    reference = check_features(reference, "reference features", width=features.shape[1])
    sides = (
        (features, check_labels(labels, len(features))),
        (reference, check_labels(reference_labels, len(reference), "reference labels")),
    )
    classes = np.unique(np.concatenate([rows for _, rows in sides]))
    for label in classes:
        counts = [np.count_nonzero(rows == label) for _, rows in sides]
        if min(counts) < 2:
            raise ValueError(f"class {label} has {counts[0]} rows and {counts[1]} in the reference; it needs 2 in each")
    each = {
        int(label): frechet_distance(*(Moments().add(values[rows == label]).gaussian() for values, rows in sides))
        for label in classes
    }
    return float(np.mean(list(each.values()))), each
