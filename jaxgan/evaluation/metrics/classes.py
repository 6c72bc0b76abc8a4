"""Class balance and class accuracy of generated images, by a classifier."""

import numpy as np
from scipy import special

from jaxgan.evaluation.metrics.checks import check_features, check_labels


def class_balance(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns KL(p || uniform) in nats, for the fractions p of the k classes that logits [n, k] predict, and p [k].

    It is 0 if all classes are equally frequent and log k if there is only one; n draws of equal classes have about
    (k - 1) / 2n.
    """
    logits = check_features(logits, "logits", least=1)
    k = logits.shape[1]
    fractions = np.bincount(logits.argmax(axis=1), minlength=k) / len(logits)
    return float(np.sum(special.rel_entr(fractions, 1.0 / k))), fractions


def class_accuracy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the fraction of images whose class by logits [n, k] is their label, int [n]: mean over classes, and [k].

    Classification accuracy scores (Ravuri & Vinyals 2019) train the classifier on samples; this one is trained on real
    images and judges samples. A class without images has NaN and is left out of the mean.

    Raises:
      ValueError: NaN in the logits, or labels that are no classes of theirs.
    """
    logits = check_features(logits, "logits", least=1)
    k = logits.shape[1]
    labels = check_label_range(check_labels(labels, len(logits)), k)
    count = np.bincount(labels, minlength=k)
    right = np.bincount(labels, weights=logits.argmax(axis=1) == labels, minlength=k)
    each = np.divide(right, count, out=np.full(k, np.nan), where=count > 0)
    return float(np.nanmean(each)), each


def check_label_range(labels: np.ndarray, k: int) -> np.ndarray:
    """Returns labels, int [n], or raises a ValueError if they are not among the classes 0 .. k - 1."""
    if labels.min() < 0 or labels.max() >= k:
        raise ValueError(f"labels {labels.min()} .. {labels.max()}: the classifier has the classes 0 .. {k - 1}")
    return labels
