"""Times the update step of each config, full-size nets and real batch: real images a second, and the time to the first.

    JAX_PLATFORMS=cpu python benchmarks/step.py [--configs=cifar_dcgan,cifar_sngan] [--set=dtype=float32]
        [--against xla torch torch.compile] [--repeats=3]

Real images are those that D sees, random here. `--against` alternates with the same step on XLA's own convolutions, or
with `torch_reference.py` (which knows dcgan, sngan, biggan, stylegan2 and r3gan): each in a process of its own, for its
own memory, and one step at a time, so that other load hurts both alike. Figures are medians; memory is the process's
peak; GFLOP/s count the algorithm's matrix products and convolutions, beside the rate of one large matrix product in the
same type.
"""

import argparse
import ast
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxgan
from jaxgan import config_files
from jaxgan.core import memory
from jaxgan.core.parallel import AXIS, Devices
from jaxgan.data import batch_spec
from jaxgan.gan.step import scan_steps
from jaxgan.ops import conv, flops

KEY = jax.random.key(0)


def settings(texts: list[str]) -> dict:
    """Returns {"batch_size": 64, ...} for ["batch_size=64", ...]."""
    changes = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            changes[key] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            changes[key] = value
    return changes


def load(name: str, changes: dict):
    """Returns the packaged config of this name with some settings changed."""
    config = jaxgan.config(name)
    config.update_from_flattened_dict(changes)
    return config


def make_recipe(config) -> jaxgan.Recipe:
    """Returns the recipe of a config as the data set that it names would make it."""
    num_classes = 1000 if config.data.name == "stacked_digits" else 10
    return jaxgan.recipe_from_config(config, jaxgan.DataSpec(config.data.image_size, 3, num_classes, 0, ""))


def random_batch(recipe: jaxgan.Recipe, num_devices: int, steps: int) -> dict[str, np.ndarray]:
    """Returns random images and labels for one call of `steps` steps on all devices."""
    spec, rng = batch_spec(recipe, recipe.image_shape, num_devices, steps), np.random.default_rng(0)
    high = {"images": 256, "labels": max(recipe.generator.num_classes, 1)}
    return {name: rng.integers(0, high[name], x.shape, x.dtype) for name, x in spec.items()}


class Dispatch(NamedTuple):
    """One call of the compiled program, as often as one likes.

    Attributes:
      run: makes the call and waits for it.
      recipe: what it trains.
      seconds: what it took to compile.
      operations: () -> those of one call on all devices, as `jaxgan.ops.flops` counts them.
      compiled: the program.
    """

    run: Callable[[], None]
    recipe: jaxgan.Recipe
    seconds: float
    operations: Callable[[], float]
    compiled: jax.stages.Compiled


def make_dispatch(config, impl: str = "auto") -> Dispatch:
    """Compiles the update step of a config, and prepares random images for it.

    Args:
      config: of which steps_per_dispatch and parallel count too.
      impl: the implementation of all convolutions, see `jaxgan.ops.conv`.
    """
    for function in (conv.conv, conv.conv_transpose):
        function.__kwdefaults__["impl"] = impl
    recipe, devices = make_recipe(config), Devices(config.parallel)
    state = devices.replicate(jax.jit(jaxgan.init_state)(recipe, KEY))
    batch = devices.put_batch(random_batch(recipe, len(devices.devices), config.steps_per_dispatch))
    step, recipe_on_devices = devices.parallelize(scan_steps), devices.replicate(recipe.on_axis(AXIS))

    start = time.perf_counter()
    compiled = devices.compile(step, recipe_on_devices, state, batch, KEY)
    seconds = time.perf_counter() - start

    def run():
        nonlocal state
        state, metrics = compiled(recipe_on_devices, state, batch, KEY)
        jax.block_until_ready((state, metrics))

    def operations():
        return flops.count(step, recipe_on_devices, state, batch, KEY) * len(devices.devices)

    return Dispatch(run, recipe, seconds, operations, compiled)


PRODUCT = 2 * 3072**3  # operations of the matrix product that rates are compared with


def product(dtype):
    """Returns a function that multiplies two large matrices."""
    x = jnp.ones((3072, 3072), dtype)
    multiply = jax.jit(lambda x: lax.dot_general(x, x, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32))
    multiply(x).block_until_ready()
    return lambda: multiply(x).block_until_ready()


def serve(which: str, name: str, changes: dict, pipe) -> None:
    """Is the process of one contender.

    It sends the seconds to its first step and the operations of a step, then the seconds of a step for every request,
    and at last its peak of memory in GB.
    """
    config, operations = load(name, changes), None
    start = time.perf_counter()
    if which.startswith("torch"):
        import torch_reference

        run = torch_reference.make_step(config, make_recipe(config), compiled=which == "torch.compile")
    elif which == "product":
        run = product(config.dtype)
    else:
        memory.retain_freed()
        run, operations = (dispatch := make_dispatch(config, which)).run, dispatch.operations
    run()
    seconds = time.perf_counter() - start
    pipe.send((seconds, operations and operations()))
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def alternate(contenders: list[str], name: str, changes: dict, repeats: int) -> dict:
    """Returns {contender: (seconds to the first step, operations, median seconds of a step, peak GB)}, in turns."""
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
    cifar = ",".join(name for name in config_files.packaged() if name.startswith("cifar"))
    parser.add_argument("--configs", default=cifar)
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for every config")
    choices = ["xla", "torch", "torch.compile"]
    parser.add_argument("--against", nargs="*", default=[], choices=choices, help="what to alternate with")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    changes, against = settings(args.set), args.against
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's threads spin otherwise
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, {changes}")
    print(
        f"{'config':22} {'batch':>5} {'images/s':>9} {'first s':>9} {'peak GB':>8} {'GFLOP/s':>8} {'of product':>10}"
        + "".join(f"  {which}: time / ours, peak GB" for which in against)
    )
    for name in args.configs.split(","):
        config = load(name, changes)
        figures = alternate(["product", "auto", *against], name, changes, args.repeats)
        first, operations, seconds, peak = figures["auto"]
        images = make_recipe(config).images_per_step * config.steps_per_dispatch
        rate = operations / seconds
        line = f"{name:22} {config.batch_size:5} {images / seconds:9.1f} {first:9.1f} {peak:8.2f} {rate / 1e9:8.1f}"
        line += f" {rate * figures['product'][2] / PRODUCT:10.0%}"
        line += "".join(f" {figures[which][2] / seconds:14.2f} {figures[which][3]:9.2f}" for which in against)
        print(line, flush=True)


if __name__ == "__main__":
    main()
