"""The update step on 1, 2, 4 and 8 simulated devices of this CPU: seconds, and the collectives of the compiled program.

    JAX_PLATFORMS=cpu python benchmarks/scaling.py [--config=cifar_sngan] [--set KEY=VALUE ...]

The devices share the cores, so more of them cannot be faster: what is to be seen is that collectives do not grow with
their number, and what the sharing costs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import jax
import step

from jaxgan.planning.program import read_program


def measure(name: str, changes: dict) -> str:
    made = step.make_step(step.load(name, changes), "auto")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        made.run()
        times.append(time.perf_counter() - start)
    counts = read_program(made.compiled.as_text())
    return (
        f"{jax.device_count():7} {statistics.median(times):9.2f} {counts.all_reduces:11} "
        f"{counts.all_reduce_bytes / 2**20:8.1f} {counts.all_gathers:11}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="cifar_sngan")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE")
    args = parser.parse_args()
    if "JAX_NUM_CPU_DEVICES" in os.environ:  # one of the processes below
        print(measure(args.config, step.settings(args.set)), flush=True)
        return
    print(f"{'devices':>7} {'s a step':>9} {'all-reduces':>11} {'MiB':>8} {'all-gathers':>11}", flush=True)
    for count in (1, 2, 4, 8):
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(count), "NPROC": "16"}
        subprocess.run([sys.executable, *sys.argv], env=environment, check=True)


if __name__ == "__main__":
    main()
