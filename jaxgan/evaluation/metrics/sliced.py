"""The sliced Wasserstein distance of two sets of patches (Rabin et al. 2011, as Karras et al. 2018, section 5, use it).

How alike the patches of one level of a Laplacian pyramid are says how alike the images are at one scale.
"""

import numpy as np

REPEATS, DIRECTIONS = 4, 128  # 512 directions, as in the paper


def normalised(patches: np.ndarray) -> np.ndarray:
    """Returns patches [..., pixels, C] as float32 rows [n, pixels * C], each channel with mean 0 and deviation 1."""
    patches = np.asarray(patches, np.float32).reshape(-1, *patches.shape[-2:])
    mean, deviation = (f(patches, axis=(0, 1), dtype=np.float64) for f in (np.mean, np.std))
    rows = (patches - mean.astype(np.float32)) / np.where(deviation > 0, deviation, 1.0).astype(np.float32)
    return rows.reshape(len(rows), -1)


def sliced_wasserstein(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """Returns the mean distance of the sorted projections of rows a and b, both [n, d], on random directions.

    In one dimension the Wasserstein distance of equally many points is that of the sorted points.
    """
    if a.shape != b.shape:
        raise ValueError(f"a sliced distance takes equally many rows, not {a.shape} and {b.shape}")
    draw = np.random.Generator(np.random.Philox(seed))
    means = []
    for _ in range(REPEATS):
        directions = draw.standard_normal((DIRECTIONS, a.shape[1]), np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        first, second = (np.sort(directions @ rows.T, axis=1) for rows in (a, b))
        means.append(np.abs(first - second).mean(dtype=np.float64))
    return float(np.mean(means))


def swd(fakes: dict[str, np.ndarray], reals: dict[str, np.ndarray], seed: int = 0) -> tuple[float, dict[str, float]]:
    """Returns 1,000 times the distance of patches, the mean over the levels and {level: distance}.

    Args:
      fakes, reals: {level: patches [N, P, pixels, C]}; of the larger set as many as the other has count, evenly spaced.
      seed: of the directions.
    """
    if list(fakes) != list(reals):
        raise ValueError(f"images with the levels {', '.join(fakes)} and {', '.join(reals)} cannot be compared")
    each = {}
    for level in fakes:
        n = min(len(fakes[level]), len(reals[level]))
        rows = [normalised(x[np.linspace(0, len(x) - 1, n).astype(int)]) for x in (fakes[level], reals[level])]
        each[level] = 1e3 * sliced_wasserstein(*rows, seed)
    return float(np.mean(list(each.values()))), each
