"""What a classifier says of generated classes: whether all are there, and whether they are what was asked for."""

import numpy as np
from scipy import special

from jaxgan.evaluation.metrics.checks import check_features, check_labels


def class_balance(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """KL(p || uniform) in nats for the shares p of the k classes that logits [n, k] predict, and these shares [k].

    0 if all classes are equally frequent, log k if there is only one; n draws of equal classes have about (k - 1) / 2n.
    """
    logits = check_features(logits, "logits", least=1)
    k = logits.shape[1]
    shares = np.bincount(logits.argmax(axis=1), minlength=k) / len(logits)
    return float(np.sum(special.rel_entr(shares, 1.0 / k))), shares


def class_accuracy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Share of images whose class by logits [n, k] is their label, int [n]: mean over the classes, and each class [k].

    Of conditional samples this is what classification accuracy scores ask (Ravuri & Vinyals 2019), the other way
    round: the classifier is of real images. A class without images has NaN and is left out of the mean.
    """
    logits = check_features(logits, "logits", least=1)
    labels = check_labels(labels, len(logits))
    k = logits.shape[1]
    if labels.min() < 0 or labels.max() >= k:
        raise ValueError(f"labels {labels.min()} .. {labels.max()}: the classifier has the classes 0 .. {k - 1}")
    count = np.bincount(labels, minlength=k)
    right = np.bincount(labels, weights=logits.argmax(axis=1) == labels, minlength=k)
    each = np.divide(right, count, out=np.full(k, np.nan), where=count > 0)
    return float(np.nanmean(each)), each
