"""Times the input pipeline: images a second from a decoded set to device batches, nothing else running.

    JAX_PLATFORMS=cpu python benchmarks/input.py [--batch_size=512] [--steps_per_call=1] [--seconds=5]

CIFAR-10's size and layout, with random pixels: the pipeline of `Run`, batches of one D step an update.
"""

import argparse
import time

import jax
import numpy as np

from jaxgan.core.parallel import Devices
from jaxgan.data import Batches
from jaxgan.data.decoding import Decoded


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--steps_per_call", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    dataset = Decoded(images, rng.integers(0, 10, 50_000, np.int32), 10)
    devices = Devices("pmap")
    batches = Batches(
        dataset,
        seed=0,
        per_step=(1, args.batch_size),
        steps_per_call=args.steps_per_call,
        first_step=0,
        last_step=args.steps_per_call * 10**9,
        device_slots=devices.local_slots,
        num_devices=len(devices.devices),
        put=devices.put_batch,
    )
    jax.block_until_ready(next(batches))
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < args.seconds:
        jax.block_until_ready(next(batches))
        calls += 1
    batches.close()
    speed = calls * args.steps_per_call * args.batch_size / elapsed
    print(f"batch {args.batch_size}, {args.steps_per_call} steps a call: {speed:,.0f} images/s")


if __name__ == "__main__":
    main()
