"""What every metric asks of its arrays, and the one line that it says otherwise."""

import numpy as np


def check_features(features: np.ndarray, name: str = "features", least: int = 2, width: int | None = None):
    """`features` as a numpy array [n, d], d > 0; ValueError unless n >= `least`, d == `width` and all is finite."""
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
    """`labels` as a numpy array int [count], or ValueError."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} must be integers [{count}], not {labels.dtype} of shape {labels.shape}")
    return labels
