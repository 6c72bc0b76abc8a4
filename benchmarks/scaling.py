"""Times the update step on 1, 2, 4 and 8 simulated devices of this CPU, and counts the program's collectives.

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

from jaxgan.planning.hlo import read_hlo


def measure(name: str, changes: dict) -> str:
    """Returns the line of this process's devices."""
    dispatch = step.make_dispatch(step.load(name, changes))
    dispatch.run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        dispatch.run()
        times.append(time.perf_counter() - start)
    hlo = read_hlo(dispatch.compiled.as_text())
    return (
        f"{jax.device_count():7} {statistics.median(times):9.2f} {hlo.all_reduces:11g} "
        f"{hlo.all_reduce_bytes / 2**20:8.1f} {hlo.all_gathers:11g}"
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
