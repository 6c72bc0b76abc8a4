"""Times the input pipeline: images a second from a decoded set to device batches, nothing else running.

    JAX_PLATFORMS=cpu python benchmarks/input.py [--batch_size=512] [--steps_per_dispatch=1] [--seconds=5]

CIFAR-10's size and layout, with random pixels: the pipeline of a training run with one D step for each G step.
"""

import argparse
import time
import types

import jax
import numpy as np

from jaxgan.core.parallel import Devices
from jaxgan.data import ArrayDataset, Batches


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--steps_per_dispatch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    dataset = ArrayDataset(images, rng.integers(0, 10, 50_000, np.int32))
    recipe = dict(batch_size=args.batch_size, real_batches_per_step=1, image_shape=(32, 32, 3), num_classes=10)
    recipe = types.SimpleNamespace(**recipe)
    batches = Batches(dataset, recipe, Devices(), steps_per_dispatch=args.steps_per_dispatch)
    jax.block_until_ready(next(batches))
    start, dispatches = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < args.seconds:
        jax.block_until_ready(next(batches))
        dispatches += 1
    batches.close()
    speed = dispatches * args.steps_per_dispatch * args.batch_size / elapsed
    print(f"batch {args.batch_size}, {args.steps_per_dispatch} steps per dispatch: {speed:,.0f} images/s")


if __name__ == "__main__":
    main()
