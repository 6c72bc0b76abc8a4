"""Times what comes before training: imports, and from the command to the first step, without and with a compile cache.

    JAX_PLATFORMS=cpu python benchmarks/startup.py [--config=cifar_sngan] [--set KEY=VALUE ...] [--repeats=3]

Each figure is a process of its own, from its start; the least of the repeats. What a step takes on this machine is in
them, and printed last. The first step is that of `step.py`, on random images: what a data set takes to be decoded the
first time is not in it.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import step

HERE = pathlib.Path(__file__).parent
FIRST_STEP = "import step; step.memory.retain_freed(); run = step.make_dispatch(step.load({!r}, {!r})).run; run()"
TWO_STEPS = f"{FIRST_STEP}; run()"


def seconds(code: str, cache: str) -> float:
    """Returns what a Python process that runs `code` takes."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=HERE, env=environment, check=True)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="cifar_sngan")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    first_step, two_steps = (code.format(args.config, step.settings(args.set)) for code in (FIRST_STEP, TWO_STEPS))
    with tempfile.TemporaryDirectory() as cache:
        bare = min(seconds("pass", cache) for _ in range(args.repeats))
        for module in ("jaxgan", "jaxgan.main", "jaxgan.training"):
            taken = min(seconds(f"import {module}", cache) for _ in range(args.repeats))
            print(f"import {module:16} {taken - bare:6.2f} s")
        print(f"first step, cold        {seconds(first_step, cache):6.1f} s")
        warm = min(seconds(first_step, cache) for _ in range(args.repeats))
        print(f"first step, warm        {warm:6.1f} s")
        another = min(seconds(two_steps, cache) for _ in range(args.repeats)) - warm
        print(f"the step itself         {another:6.1f} s")


if __name__ == "__main__":
    main()
