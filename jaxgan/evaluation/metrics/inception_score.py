"""Inception Score (Salimans et al. 2016, section 4) for the logits of any classifier."""

import numpy as np
from scipy import special

from jaxgan.evaluation.metrics.checks import check_features


def inception_score(
    logits: np.ndarray, splits: int = 10, shuffle: bool = True, seed: int = 2020
) -> tuple[float, float]:
    """Returns the mean and standard deviation over splits of exp(E KL(p(y|x) || p(y))), 1 to k, for logits [n, k].

    As in torch-fidelity, the rows are shuffled with its seed (samples are often sorted by class) and cut into `splits`
    parts of n / splits rows, and the standard deviation is that of the parts, ddof 0. The score grows with the rows in
    a part, so scores with 10 splits and with 1 are not comparable.

    Raises:
      ValueError: fewer than 2 rows in a part, or NaN.
    """
    if splits < 1:
        raise ValueError(f"the Inception Score needs splits >= 1, not {splits}")
    logits = check_features(logits, "logits", least=2 * splits)
    n = len(logits)
    order = np.arange(n)
    if shuffle:
        order = np.random.RandomState(seed).permutation(n)  # the order is torch-fidelity's
    scores = []
    for i in range(splits):
        log_p = special.log_softmax(logits[order[i * n // splits : (i + 1) * n // splits]].astype(np.float64), axis=1)
        p = np.exp(log_p)
        marginal = p.mean(axis=0)
        # E KL = H(marginal) - E H(p), where a class of probability 0 adds 0
        scores.append(np.exp(np.mean(np.sum(p * log_p, axis=1)) - np.sum(special.xlogy(marginal, marginal))))
    return float(np.mean(scores)), float(np.std(scores))
