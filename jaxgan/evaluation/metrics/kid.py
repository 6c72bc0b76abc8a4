"""Kernel distance between features (KID for those of Inception-v3; Bińkowski et al. 2018)."""

import numpy as np

from jaxgan.evaluation.metrics.checks import check_features


def kid(
    features: np.ndarray, reference: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> tuple[float, float]:
    """Returns the unbiased squared MMD of features [n, d] and `reference` [m, d]: mean and deviation over subsets.

    The kernel is (x.y / d + 1)^3 (Bińkowski et al. 2018, section 4), computed in float64. Unbiased means that equal
    distributions have values around 0, some below. The pairs of subsets are those that torch-fidelity draws from its
    seed, so the values agree; they depend on the order of the rows and on which set comes first. The subsets overlap,
    so the standard deviation is no standard error of the mean.

    Raises:
      ValueError: fewer than 2 points in a subset, sets of fewer than `subset_size`, another width, or NaN.
    """
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"kid needs subsets >= 1 of size >= 2, not subsets={subsets}, subset_size={subset_size}")
    features = check_features(features, least=subset_size)
    reference = check_features(reference, "reference features", least=subset_size, width=features.shape[1])
    draws = np.random.RandomState(seed)  # the draws are torch-fidelity's
    values = []
    for _ in range(subsets):
        pair = (
            rows[draws.choice(len(rows), subset_size, replace=False)].astype(np.float64)
            for rows in (features, reference)
        )
        values.append(_squared_mmd(*pair))
    return float(np.mean(values)), float(np.std(values))


def _squared_mmd(x, y):
    """Returns the unbiased squared MMD of x and y, float64 [m, d] (Gretton et al. 2012, eq. 3)."""
    m = len(x)
    within = 0.0
    for z in (x, y):
        kernel = _kernel(z, z)
        within += kernel.sum() - np.trace(kernel)
    return within / (m * (m - 1)) - 2.0 * np.mean(_kernel(x, y))


def _kernel(x, y):
    products = (x / x.shape[1]) @ y.T
    products += 1.0
    cubes = np.square(products)  # several times as fast as ** 3
    cubes *= products
    return cubes
