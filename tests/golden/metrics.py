"""Makes metrics.npz: features, and what public packages say of them, for tests/test_metrics_golden.py.

    pip install numpy scipy torch torch-fidelity pytorch-fid prdc
    python tests/golden/metrics.py

Everything is computed in float64. AuthPct has no package; its definition is written out below.
"""

import pathlib

import numpy as np
import torch
from prdc import compute_prdc
from pytorch_fid.fid_score import calculate_frechet_distance
from scipy.spatial.distance import cdist
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric


def authpct(train, fake):
    """For each fake: is its nearest training point nearer to another training point than to the fake?"""
    between, own = cdist(fake, train), cdist(train, train)
    np.fill_diagonal(own, np.inf)
    return 100.0 * np.mean(own.min(axis=1)[between.argmin(axis=1)] < between.min(axis=1))


def main():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(24, 24)) / 5
    real = (np.abs(rng.normal(size=(400, 24)) @ mix) + 0.3).astype(np.float32)  # correlated, skewed, far from 0
    fake = (np.abs(rng.normal(size=(300, 24)) @ mix) * 0.9 + 0.35).astype(np.float32)
    fake[:40] = real[:40] + 0.02 * rng.normal(size=(40, 24)).astype(np.float32)  # memorised
    logits = (3.0 * rng.normal(size=(305, 16))).astype(np.float32)
    logits = logits[logits[:, 0].argsort()]  # so that the order matters

    real64, fake64 = real.astype(np.float64), fake.astype(np.float64)
    tensors = torch.from_numpy(fake64), torch.from_numpy(real64)
    statistics = [fid_features_to_statistics(t) for t in tensors]
    quiet = {"verbose": False}
    kid = kid_features_to_metric(*tensors, kid_subsets=20, kid_subset_size=100, **quiet)
    scores = {
        splits: isc_features_to_metric(torch.from_numpy(logits), splits, shuffle)
        for splits, shuffle in ((1, True), (10, True), (7, False))
    }
    values = {
        "fid_pytorch_fid": calculate_frechet_distance(*(m for s in statistics for m in (s["mu"], s["sigma"]))),
        "fid_torch_fidelity": fid_statistics_to_metric(*statistics, **quiet)["frechet_inception_distance"],
        "kid": [kid[f"kernel_inception_distance_{of}"] for of in ("mean", "std")],
        **{f"is_{n}": [s[f"inception_score_{of}"] for of in ("mean", "std")] for n, s in scores.items()},
        "authpct": authpct(real64, fake64),
    }
    for k in (3, 5):
        values |= {f"{name}_{k}": value for name, value in compute_prdc(real64, fake64, k).items()}
    path = pathlib.Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, real=real, fake=fake, logits=logits, **values)
    for name, value in values.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
