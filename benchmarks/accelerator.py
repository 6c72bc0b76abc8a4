"""Times the update step of the main configs on this machine's accelerators, in float32 and bfloat16.

    python benchmarks/accelerator.py [--configs=cifar,cifar_r3gan] [--dtypes=bfloat16] [--set KEY=VALUE ...]

The step runs on random images on all devices; the nets have their full size. A batch that does not fit is halved until
it does. images/s are reals that D sees, at the median dispatch; TFLOP/s are the algorithm's matrix products and
convolutions, of all devices together; memory is what the compiled program has at its peak on one device. float32 is
what JAX makes of it: GPUs and TPUs round the factors of products unless JAX_DEFAULT_MATMUL_PRECISION=highest.

It has only been tried on a CPU, with tiny settings:

    JAX_PLATFORMS=cpu python benchmarks/accelerator.py --configs=cifar_sngan --seconds=1 --steps_per_dispatch=1
        --set d_steps=1 batch_size=4 model.g.channels="(8,8,8,8)" model.d.channels="(8,8,8,8)"
"""

import argparse
import statistics
import time

import jax
import step

CONFIGS = "cifar,cifar_sngan,cifar_stylegan2,cifar_r3gan"


def largest_that_fits(config) -> step.Dispatch:
    """Returns the dispatch of a config after its first run, with its batch or the largest half, quarter, ... that fits.

    Raises:
      jax.errors.JaxRuntimeError: not even one image for each device fits, or something else went wrong.
    """
    while True:
        try:
            dispatch = step.make_dispatch(config)
            dispatch.run()
            return dispatch
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or config.batch_size // 2 < jax.device_count():
                raise
        config.batch_size //= 2


def measure(config, seconds: float) -> str:
    """Returns the figures of a config as columns, from dispatches of `seconds` in all, three at the least."""
    dispatch, times = largest_that_fits(config), []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        dispatch.run()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    speed = dispatch.recipe.images_per_step * config.steps_per_dispatch / median
    memory = dispatch.compiled.memory_analysis()
    peak = memory.peak_memory_in_bytes or memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return (
        f"{dispatch.recipe.batch_size:6} {speed:10,.1f} {1e3 * median / config.steps_per_dispatch:9.1f} "
        f"{dispatch.operations() / median / 1e12:8.2f} {peak / 2**30:8.2f} {dispatch.seconds:10.1f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", default=CONFIGS)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--steps_per_dispatch", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each step is timed")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for every config")
    args = parser.parse_args()
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}")
    head = f"{'config':16} {'dtype':9} {'batch':>6} {'images/s':>10} {'ms a step':>9} {'TFLOP/s':>8} {'GiB':>8}"
    print(f"{head} {'compile s':>10}", flush=True)
    for name in args.configs.split(","):
        for dtype in args.dtypes.split(","):
            changes = {"dtype": dtype, "steps_per_dispatch": args.steps_per_dispatch} | step.settings(args.set)
            print(f"{name:16} {dtype:9} {measure(step.load(name, changes), args.seconds)}", flush=True)


if __name__ == "__main__":
    main()
