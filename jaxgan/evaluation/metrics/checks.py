"""What every metric asks of its arrays."""

import numpy as np


def check_features(features: np.ndarray, name: str = "features", least: int = 2, width: int | None = None):
    """Returns `features` as a numpy array [n, d]; a ValueError unless d > 0, n >= `least`, d == `width`, all finite."""
    features = np.asarray(features)
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"{name} must be an array [n, d], a row for each example, not of shape {features.shape}")
    if width is not None and features.shape[1] != width:
        raise ValueError(f"{name} must have {width} columns like what they are compared with, not {features.shape[1]}")
    if len(features) < least:
        raise ValueError(f"{name} must be at least {least} rows here, not {len(features)}")
    wrong = len(features) - np.count_nonzero(np.isfinite(features).all(axis=1))
    if wrong:
        raise ValueError(f"{name} must be finite, but {wrong} of {len(features)} rows have NaN or infinity")
    return features


def check_labels(labels: np.ndarray, count: int, name: str = "labels") -> np.ndarray:
    """Returns `labels` as a numpy array int [count], or raises a ValueError."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} must be integers [{count}], not {labels.dtype} of shape {labels.shape}")
    return labels
