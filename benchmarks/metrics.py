"""Times the metrics at the size of a full evaluation: 50,000 features of width 2048 on each side.

    JAX_PLATFORMS=cpu python benchmarks/metrics.py [--quick] [--only=prdc] [--rows=50000] [--width=2048]

Prints for each metric its value on the made-up features, seconds, the peak memory of the process so far (so take --only
for that of one metric; the features themselves are 0.8 GB of it), and what it is meant to keep within on two cores. On
a machine that is busy with other things, threads that wait for each other can take ten times as long. --quick takes
5,000 rows. The first lines name the kernels of numpy's and scipy's BLAS: an OPENBLAS_CORETYPE in the environment may
have chosen slow ones.
"""

import argparse
import os
import resource
import time

import jax
import numpy as np
import threadpoolctl

from jaxgan.evaluation.metrics.frechet import Moments, frechet_distance, frechet_infinity, frechet_per_class
from jaxgan.evaluation.metrics.inception_score import inception_score
from jaxgan.evaluation.metrics.kid import kid
from jaxgan.evaluation.metrics.memorisation import authpct
from jaxgan.evaluation.metrics.prdc import prdc

BARS = {"frechet": "30 s", "prdc": "600 s, 4 GB"}


def make_features(rows, width, seed):
    """Returns float32 [rows, width], >= 0, of 64 independent directions and a little noise, as deep nets have."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(64, width)).astype(np.float32) / 8.0
    features = np.empty((rows, width), np.float32)
    for start in range(0, rows, 1000):
        part = features[start : start + 1000]
        part[:] = rng.normal(seed / 20.0, 1.0, size=(len(part), 64)).astype(np.float32) @ directions
        part += 0.1 * rng.standard_normal(part.shape, np.float32)
        np.maximum(part, 0.0, out=part)
    return features


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5,000 rows")
    parser.add_argument("--only", default="", help="metrics whose name contains this")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=2048)
    args = parser.parse_args()
    rows = 5_000 if args.quick else args.rows
    for blas in threadpoolctl.threadpool_info():
        if blas["user_api"] == "blas":
            print(f"{os.path.basename(blas['filepath'])}: {blas.get('architecture')}, {blas['num_threads']} threads")
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}; {rows} rows of width {args.width}")

    real, fake = (make_features(rows, args.width, seed) for seed in (0, 1))
    labels = np.arange(rows) % 10
    fit = lambda features: Moments().add(features).gaussian()  # noqa: E731
    runs = {
        "frechet": lambda: frechet_distance(fit(fake), fit(real)),
        "frechet_infinity": lambda: frechet_infinity(fake, fit(real), smallest=rows // 10),
        "frechet_per_class": lambda: frechet_per_class(fake, labels, real, labels)[0],
        "kid": lambda: kid(fake, real),
        "inception_score": lambda: inception_score(fake[:, :1008]),
        "prdc": lambda: prdc(fake, real),
        "authpct": lambda: authpct(fake, real),
    }
    print(f"{'metric':18} {'seconds':>8} {'peak GB':>8}   {'meant to take':14} value")
    for name, run in runs.items():
        if args.only in name:
            start = time.perf_counter()
            value = run()
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # ru_maxrss is in KiB on Linux
            print(f"{name:18} {seconds:8.1f} {peak:8.2f}   {BARS.get(name, ''):14} {value}", flush=True)


if __name__ == "__main__":
    main()
