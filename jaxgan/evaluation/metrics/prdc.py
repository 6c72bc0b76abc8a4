"""Precision, recall, density and coverage by nearest neighbours, for any features."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.evaluation.metrics.neighbours import as_pair, distances, nearest, row_blocks, squared_distances, to_device


def prdc(features: np.ndarray, reference: np.ndarray, k: int = 5, block_rows: int = 1024) -> dict[str, float]:
    """Returns precision, recall, density and coverage of features [n, d] against the `reference` [m, d] of reals.

    A point's ball is open and reaches to its k-th nearest neighbour in its own set.
    - `precision`, 0 to 1: fraction of fakes in the ball of any real (Kynkäänniemi et al. 2019, eq. 2);
    - `recall`, 0 to 1: fraction of reals in the ball of any fake (the same);
    - `density`, 0 to m / k, about 1 for equal distributions: mean number of reals whose ball a fake is in, over k
      (Naeem et al. 2020);
    - `coverage`, 0 to 1: fraction of reals with a fake in their ball (the same).

    All depend on the number of reals and most on that of fakes: compare equal numbers, usually 10,000 or 50,000 each.
    It takes the time of 3 products [n, d] x [d, m], and the memory of the features twice and some hundred MiB;
    `block_rows` fakes are compared at once.

    Raises:
      ValueError: fewer than k + 1 rows on a side, another width, or NaN.
    """
    if k < 1:
        raise ValueError(f"prdc needs k >= 1, not {k}")
    fake, real = as_pair(features, reference, (k + 1, k + 1))
    radius_fake, radius_real = (nearest(z, z, k, np.arange(len(z)), block_rows)[1][:, -1] for z in (fake, real))
    balls = np.zeros(len(fake))  # how many balls of reals a fake is in
    covered, recalled = np.zeros((2, len(real)), bool)
    (rows_fake, rows_real), unit = to_device(fake, real)
    for rows in row_blocks(len(fake), len(real), block_rows):
        squares = (np.square(radius / unit).astype(np.float32) for radius in (radius_fake[rows], radius_real))
        count, in_real, in_fake, unsure = map(np.asarray, _compare(rows_fake[rows], rows_real, *squares))
        balls[rows] = count
        covered |= in_real
        recalled |= in_fake
        i, j = np.nonzero(unsure)
        i += rows.start
        distance = distances(fake, real, i, j)
        np.add.at(balls, i, distance < radius_real[j])
        covered[j[distance < radius_real[j]]] = True
        recalled[j[distance < radius_fake[i]]] = True
    return {
        "precision": float(np.mean(balls > 0)),
        "recall": float(np.mean(recalled)),
        "density": float(np.mean(balls) / k),
        "coverage": float(np.mean(covered)),
    }


@jax.jit
def _compare(fake, real, radius_fake, radius_real):
    """Compares fakes [n, d] and reals [m, d], whose balls have these squared radii.

    Returns:
      How many balls of reals each fake is in [n], which reals have a fake in their ball [m], which are in the ball of a
      fake [m], and which pairs are too close to call [n, m]; those count nowhere else.
    """
    squared, error = squared_distances(fake, real)
    radius_fake = radius_fake[:, None]
    unsure = jnp.minimum(jnp.abs(squared - radius_real), jnp.abs(squared - radius_fake)) <= error
    in_real = (squared < radius_real) & ~unsure
    in_fake = (squared < radius_fake) & ~unsure
    return in_real.sum(axis=1), in_real.any(axis=0), in_fake.any(axis=0), unsure
