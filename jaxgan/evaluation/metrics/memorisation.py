"""How many fakes are suspiciously near to a training example."""

import numpy as np

from jaxgan.evaluation.metrics.neighbours import as_pair, nearest


def authpct(features: np.ndarray, reference: np.ndarray, block_rows: int = 1024) -> float:
    """Returns how many percent of features [n, d] are authentic, against the `reference` [m, d] of training examples.

    A fake is authentic if the training example nearest to it has another training example that is nearer still (Alaa
    et al. 2022; in the form of Stein et al. 2023, with Euclidean distances between any features). Copies have 0. Fresh
    draws from the distribution of the training set have 33 in one dimension, 38 in two and more in many, so the value
    to compare with is that of a test set. `block_rows` fakes are compared at once.

    Raises:
      ValueError: fewer than 1 fake or 2 training examples, another width, or NaN.
    """
    fake, train = as_pair(features, reference, (1, 2))
    index, distance = nearest(fake, train, block_rows=block_rows)
    used, place = np.unique(index[:, 0], return_inverse=True)
    _, own = nearest(train[used], train, skip=used, block_rows=block_rows)
    return 100.0 * float(np.mean(own[place, 0] < distance[:, 0]))
