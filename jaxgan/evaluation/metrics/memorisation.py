"""How much of what is generated is nearer to a training example than that is to its like."""

import numpy as np

from jaxgan.evaluation.metrics.neighbours import as_pair, nearest


def authpct(features: np.ndarray, reference: np.ndarray) -> float:
    """Percentage of features [n, d] that are authentic, 0 to 100, against the `reference` [m, d] of training examples.

    A fake is authentic if the training example nearest to it has another training example that is nearer still (Alaa
    et al. 2022; in the form of Stein et al. 2023, with Euclidean distances of any features). Copies have
    0. Fresh draws from the distribution of the training set have 33 in one dimension, 38 in two and more in many, so a
    test set's is the figure to compare with. ValueError for NaN, other widths, and fewer than 1 and 2 rows.
    """
    fake, train = as_pair(features, reference, (1, 2))
    index, distance = nearest(fake, train)
    used, place = np.unique(index[:, 0], return_inverse=True)
    _, own = nearest(train[used], train, skip=used)
    return 100.0 * float(np.mean(own[place, 0] < distance[:, 0]))
