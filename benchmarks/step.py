"""Times the update step of each config, full-size nets and real batch: real images a second, and the time to compile.

    JAX_PLATFORMS=cpu python benchmarks/step.py [--configs=cifar_dcgan,cifar_sngan] [--set=dtype=float32]
        [--against=xla|torch] [--repeats=3]

Real images are those that D sees, random here. `--against` alternates with the same step on XLA's own convolutions, or
with `torch_reference.py` (which knows dcgan, sngan, biggan, stylegan2 and r3gan): each in a process of its own, for its
own memory, and one step at a time, so that other load hurts both alike. Figures are medians; memory is the process's
peak; GFLOP/s count the algorithm's matrix products and convolutions, beside the rate of one large matrix product in the
same type.
"""

import argparse
import ast
import importlib.util
import multiprocessing
import os
import pathlib
import resource
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan.core import memory
from jaxgan.core.parallel import Devices
from jaxgan.gan.state import create_state, make_nets
from jaxgan.gan.step import make_update, real_batches_per_step, scan_steps
from jaxgan.ops import conv, flops
from jaxgan.settings import images_per_step
from jaxgan.training.check import check

CONFIGS = {path.stem: path for path in sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))}
KEY = jax.random.key(0)


def settings(texts: list[str]) -> dict:
    """{"batch_size": 64, ...} of ["batch_size=64", ...]."""
    changes = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            changes[key] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            changes[key] = value
    return changes


def load(name: str, changes: dict):
    spec = importlib.util.spec_from_file_location(name, CONFIGS[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.data.channels, config.data.num_classes, config.steps_per_call = 3, 10, 1
    if config.data.name == "stacked_digits":
        config.data.num_classes = 1000
    config.update_from_flattened_dict(changes)
    check(config, jax.device_count())
    return config


def use(impl: str) -> None:
    """Make this the formulation of all convolutions that do not say."""
    for function in (conv.conv, conv.conv_transpose):
        function.__kwdefaults__["impl"] = impl


class Step(NamedTuple):
    """`run` makes one call; `seconds` were spent to compile and make the first."""

    run: Callable
    seconds: float
    operations: Callable  # () -> of one call on all devices, as ops/flops.py counts them
    compiled: Callable


def make_step(config, impl: str) -> Step:
    """The update step of a config on random images."""
    use(impl)
    nets, devices = make_nets(config), Devices(config.parallel)
    step = devices.parallelize(scan_steps(make_update(config, nets)))
    state = devices.replicate(jax.jit(lambda key: create_state(nets, key))(KEY))
    count = len(devices.devices)
    shape = count, config.steps_per_call, real_batches_per_step(config), config.batch_size // count
    rng, size = np.random.default_rng(0), config.data.image_size
    images = rng.integers(0, 256, (*shape, size, size, 3), np.uint8)
    batch = devices.put_batch({"images": images, "labels": rng.integers(0, 10, shape, np.int32)})

    start = time.perf_counter()
    compiled = devices.compile(step, state, batch, KEY)

    def run():
        nonlocal state
        state, metrics = compiled(state, batch, KEY)
        jax.block_until_ready((state, metrics))

    def operations():
        return flops.count(step, state, batch, KEY) * jax.device_count()

    run()
    return Step(run, time.perf_counter() - start, operations, compiled)


PRODUCT = 2 * 3072**3  # operations of the matrix product that rates are compared with


def product(dtype):
    """A function that multiplies two large matrices."""
    x = jnp.ones((3072, 3072), dtype)
    multiply = jax.jit(lambda x: lax.dot_general(x, x, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32))
    multiply(x).block_until_ready()
    return lambda: multiply(x).block_until_ready()


def serve(which: str, name: str, changes: dict, pipe) -> None:
    """One contender's process: seconds to its first step and operations of one, then seconds for every request, at last
    its peak of memory in GB."""
    config, operations = load(name, changes), 0
    start = time.perf_counter()
    if which == "torch":
        import torch_reference

        run = torch_reference.make_step(config)
    elif which == "product":
        run = product(config.dtype)
    else:
        memory.keep_freed()
        step = make_step(config, which)
        run, operations = step.run, step.operations()
    pipe.send((time.perf_counter() - start, operations))
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def alternate(contenders: list[str], name: str, changes: dict, repeats: int) -> dict:
    """{contender: (seconds to the first step, operations, median seconds of a step, peak GB)}, taking turns."""
    spawn, pipes, first = multiprocessing.get_context("spawn"), {}, {}
    for which in contenders:
        pipes[which], other = spawn.Pipe()
        spawn.Process(target=serve, args=(which, name, changes, other), daemon=True).start()
        other.close()  # so that a process that dies is noticed
        first[which] = pipes[which].recv()
    seconds = {which: [] for which in contenders}
    for _ in range(repeats):
        for which, pipe in pipes.items():
            pipe.send(True)
            seconds[which].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return {which: (*first[which], statistics.median(seconds[which]), pipe.recv()) for which, pipe in pipes.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--configs", default=",".join(name for name in CONFIGS if name.startswith("cifar")))
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for every config")
    parser.add_argument("--against", choices=["xla", "torch"], help="what to alternate with")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    changes, against = settings(args.set), [args.against] * bool(args.against)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's threads spin otherwise
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, {changes}")
    print(
        f"{'config':22} {'batch':>5} {'images/s':>9} {'compile s':>9} {'peak GB':>8} {'GFLOP/s':>8} {'of product':>10}"
        + "".join(f"  {which}: time / ours, peak GB" for which in against)
    )
    for name in args.configs.split(","):
        config = load(name, changes)
        figures = alternate(["product", "auto", *against], name, changes, args.repeats)
        first, operations, seconds, peak = figures["auto"]
        images, rate = images_per_step(config) * config.steps_per_call, operations / seconds
        line = f"{name:22} {config.batch_size:5} {images / seconds:9.1f} {first:9.1f} {peak:8.2f} {rate / 1e9:8.1f}"
        line += f" {rate * figures['product'][2] / PRODUCT:10.0%}"
        line += "".join(f" {figures[which][2] / seconds:14.2f} {figures[which][3]:9.2f}" for which in against)
        print(line, flush=True)


if __name__ == "__main__":
    main()
