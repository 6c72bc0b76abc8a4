"""Checks and times training on this machine's accelerators; prints Markdown.

    python benchmarks/accelerator.py [--configs=cifar,cifar_r3gan] [--dtypes=bfloat16] [--set KEY=VALUE ...]

First what must be right: convolutions and their gradients beside float64, five steps beside the CPU's, a run that is
interrupted beside one that is not, and that the state of a step takes over the memory of the one before. Then the
update step of the main configs at full size, on random images on all devices, each in a process of its own; a batch
that does not fit is halved until it does. Where PyTorch is installed, `torch_reference.py` takes the same step on one
GPU, eagerly or (`--against torch.compile`) compiled.

images/s are reals that D sees, at the median call; "of peak" is the algorithm's matrix products and convolutions over
the published bfloat16 peak of the chips; memory is the most that arrays took on one device, with what the compiled
program says it needs in brackets; "first step" counts from the start of the process, and comes from JAX's compilation
cache where JAX_COMPILATION_CACHE_DIR is set and has it. float32 is what JAX makes of it: GPUs and TPUs round the
factors of products unless JAX_DEFAULT_MATMUL_PRECISION=highest; PyTorch is told to do the same.
"""

import argparse
import contextlib
import functools
import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import time
import zlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import step
from jax import lax

import jaxgan
from jaxgan.core.parallel import Devices
from jaxgan.data import ArrayDataset
from jaxgan.ops.conv import conv, conv_transpose
from jaxgan.planning.chips import chip_of

CONFIGS = "cifar,cifar_sngan,cifar_stylegan2,cifar_r3gan"
GIB = 2**30
# What the nets have, with fewer images: function, x, kernel, options.
CONVOLUTIONS = (
    (conv, (4, 32, 32, 128), (3, 3, 128, 128), {}),
    (conv, (4, 32, 32, 3), (3, 3, 3, 128), {}),
    (conv, (4, 16, 16, 256), (4, 4, 256, 256), dict(stride=2, padding=1)),
    (conv_transpose, (4, 8, 8, 256), (4, 4, 256, 128), dict(stride=2, padding=1)),
    (conv, (4, 16, 16, 512), (3, 3, 16, 512), dict(groups=32)),
    (conv, (4, 4, 4, 512), (3, 3, 16, 512), dict(groups=32)),
    (conv, (4, 16, 16, 512), (1, 1, 512, 256), {}),
    (conv, (4, 35, 35, 96), (4, 1, 1, 96), dict(stride=(2, 1), padding="VALID", groups=96)),
)
# (name, type, precision, largest error): relative to float64, of norms; the second is an accelerator's own float32.
PRECISIONS = (
    ("float32, highest", jnp.float32, lax.Precision.HIGHEST, 1e-5),
    ("float32", jnp.float32, None, 3e-3),
    ("bfloat16", jnp.bfloat16, None, 2e-2),
)


def distance(tree, reference) -> float:
    """Returns the norm of the difference of two trees over that of the second."""
    pairs = [[np.asarray(x, np.float64) for x in pair] for pair in zip(*map(jax.tree.leaves, (tree, reference)))]
    return (sum(np.sum((x - y) ** 2) for x, y in pairs) / sum(np.sum(y**2) for _, y in pairs)) ** 0.5


@functools.partial(jax.jit, static_argnames=("function", "stride", "padding", "groups", "precision", "impl"))
def with_gradients(function, x, kernel, dy, **options):
    """Returns y and the gradients by x and the kernel."""
    y, pull = jax.vjp(lambda x, kernel: function(x, kernel, **options), x, kernel)
    return y, pull(dy)


def check_convolutions():
    """Yields (what, figure, whether it is right) for the convolutions of the nets and their gradients."""
    rng = np.random.default_rng(0)

    def evaluate(function, dtype, device, arrays, **options):
        arrays = [jax.device_put(jnp.asarray(x, dtype), device) for x in arrays]
        return jax.device_get(with_gradients(function, *arrays, **options))

    cpu = jax.devices("cpu")[0]
    for name, dtype, precision, bound in PRECISIONS:
        errors = []
        for function, *shapes, options in CONVOLUTIONS:
            arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
            shape = jax.eval_shape(lambda x, kernel, f=function, o=options: f(x, kernel, **o), *arrays).shape
            arrays.append(rng.standard_normal(shape, np.float32))
            arrays = [np.asarray(jnp.asarray(x, dtype), np.float64) for x in arrays]
            got = evaluate(function, dtype, jax.devices()[0], arrays, **options, precision=precision)
            with jax.enable_x64(True), jax.default_device(cpu):
                exact = evaluate(function, jnp.float64, cpu, arrays, **options, impl="xla")
            errors += [distance(a, b) for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact))]
        figure = f"{max(errors):.1e} of {len(errors)}, largest; bound {bound:.0e}"
        yield f"convolutions and gradients beside float64: {name}", figure, max(errors) <= bound


def small(name: str):
    """Returns a config with narrow nets, in float32; all checks take its five steps at once, so it is compiled once."""
    config = step.load(name, {"dtype": "float32", "batch_size": 16, "steps_per_dispatch": 5})
    config.model.g.channels = config.model.d.channels = (32, 32, 32, 32)
    return config


def check_steps(names: list[str]):
    """Yields what `check_convolutions` does for five steps of each config, on one accelerator and on the CPU."""
    for name in names:
        recipe = step.make_recipe(config := small(name))
        batch = step.random_batch(recipe, 1, config.steps_per_dispatch)
        first = jax.device_get(jax.jit(jaxgan.init_state)(recipe, step.KEY))
        ends = []
        with jax.default_matmul_precision("highest"):
            for kind in (jax.devices()[0], jax.devices("cpu")[0]):
                devices = Devices(config.parallel, [kind])
                state, key = (devices.replicate(x) for x in (first, jax.device_get(step.KEY)))
                train = jaxgan.parallelize(recipe, devices)
                ends.append(jax.device_get(train(state, devices.put_batch(batch), key)[0]))
        moved = jax.tree.map(lambda x, y: np.subtract(x, y, dtype=np.float64), ends[1].g.params, first.g.params)
        change = distance(moved, first.g.params)
        error = distance(ends[0].g.params, ends[1].g.params) / change
        figure = f"G's parameters are apart by {error:.1e} of their change; bound 1e-02"
        yield f"five steps beside the CPU's: {name}", figure, error <= 1e-2


def train_twice(name: str) -> bool:
    """Returns whether a run has the same bits when it is interrupted, all state counted."""
    config = small(name)
    config.eval.metrics, config.checkpoint.best_metric, config.log.trackers = (), "", ()
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    dataset = ArrayDataset(images, np.arange(64) % 10)
    ends = []

    def keep(step, state, metrics, generator):
        ends.append([zlib.crc32(np.asarray(x).tobytes()) for x in jax.tree.leaves(jax.device_get(state))])

    step_kimg = config.batch_size * config.d_steps / 1e3
    for lengths in ((10,), (5, 10)):
        with tempfile.TemporaryDirectory() as workdir:
            for length in lengths:
                config.train_kimg = length * step_kimg
                jaxgan.train(config, workdir, dataset, hooks=[jaxgan.every(0, keep)])
    return ends[0] == ends[-1]


def check_donation() -> bool:
    """Returns whether a step's state takes over the buffers of the one before, each of them once."""
    recipe = step.make_recipe(config := small("cifar_sngan"))
    devices = (train := jaxgan.parallelize(recipe)).devices
    state = devices.replicate(jax.jit(jaxgan.init_state)(recipe, step.KEY))
    batch = devices.put_batch(step.random_batch(recipe, len(devices.devices), config.steps_per_dispatch))

    def addresses(tree):
        return [x.addressable_shards[0].data.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]

    before = addresses(state)
    after, _ = train(state, batch, step.KEY)
    new = addresses(jax.block_until_ready(after))
    gone = all(x.is_deleted() for x in jax.tree.leaves(state))
    return gone and set(new) == set(before) and len(set(new)) == len(new)


def checks(pipe, names: list[str]) -> None:
    """Sends rows of checks, then None."""
    for rows in (check_convolutions(), check_steps(names)):
        for row in rows:
            pipe.send(row)
    pipe.send(("the state is donated, each buffer once", "", check_donation()))
    pipe.send(None)


def resume(pipe, name: str) -> None:
    """Sends whether an interrupted run has the bits of one that is not."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pipe.send(train_twice(name))


def peak_bytes() -> float:
    """Returns the most that arrays ever took on a device, 0 where it does not count."""
    return max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices())


def median_seconds(run, seconds: float) -> float:
    """Returns the median of calls that take `seconds` in all, three at the least."""
    times = []
    while len(times) < 3 or sum(times) < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def ours(pipe, name: str, changes: dict, seconds: float, start: float) -> None:
    """Sends the columns of a config.

    The batch is that of the config, or the largest half, quarter, ... of it that fits.
    """
    config = step.load(name, changes)
    while True:
        try:
            dispatch = step.make_dispatch(config)
            dispatch.run()
            break
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or config.batch_size // 2 < jax.device_count():
                raise
        config.batch_size //= 2
    first = time.time() - start
    median, chip = median_seconds(dispatch.run, seconds), chip_of(jax.devices()[0].device_kind)
    speed = dispatch.recipe.images_per_step * config.steps_per_dispatch / median
    rate, memory = dispatch.operations() / median, dispatch.compiled.memory_analysis()
    needed = memory.peak_memory_in_bytes or memory.argument_size_in_bytes + memory.temp_size_in_bytes
    share = f"{rate / chip.flops / jax.device_count():.0%}" if chip else ""
    figures = [f"{config.batch_size}", f"{speed:,.0f}", f"{1e3 * median / config.steps_per_dispatch:.2f}"]
    figures += [f"{rate / 1e12:.1f}", share, f"{peak_bytes() / GIB:.2f} ({needed / GIB:.2f})"]
    pipe.send([*figures, f"{first:.0f} ({dispatch.seconds:.0f})"])


def theirs(pipe, which: str, name: str, changes: dict, seconds: float) -> None:
    """Sends images/s and memory of "torch" or "torch.compile" on one GPU."""
    jax.config.update("jax_platforms", "cpu")
    import torch
    import torch_reference

    config = step.load(name, changes)
    recipe = step.make_recipe(config)
    run = torch_reference.make_step(config, recipe, "cuda", compiled=which == "torch.compile")

    def dispatch():
        for _ in range(config.steps_per_dispatch):
            run()
        torch.cuda.synchronize()

    for _ in range(5):
        run()
    torch.cuda.synchronize()
    speed = recipe.images_per_step * config.steps_per_dispatch / median_seconds(dispatch, seconds)
    pipe.send([f"{speed:,.0f}", f"{torch.cuda.max_memory_allocated() / GIB:.2f}"])


def in_process(function, *arguments, **environment):
    """Yields what a function sends, which runs in a process of its own; it has ended when this generator has."""
    spawn = multiprocessing.get_context("spawn")
    receive, send = spawn.Pipe(duplex=False)
    process = spawn.Process(target=function, args=(send, *arguments))
    with mock.patch.dict(os.environ, environment):
        process.start()
    send.close()
    with contextlib.suppress(EOFError):
        try:
            while True:
                yield receive.recv()
        finally:
            receive.close()
            process.join()


def print_row(*columns) -> None:
    print("| " + " | ".join(map(str, columns)) + " |", flush=True)


def print_checks(names: list[str], cache: str) -> None:
    """Prints the table of what must be right; `cache` is a directory for programs that several of the checks have."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", cache)
    print_row("check", "figure", "right")
    print_row(*["---"] * 3)
    row = ()
    for row in in_process(checks, names, JAX_COMPILATION_CACHE_DIR=cache):
        if row:
            print_row(*row[:2], "yes" if row[2] else "**NO**")
    if row is not None:
        print_row("the checks", "ended early, see above", "**NO**")
    # Only a GPU has kernels that sum in any order.
    gpu, given = jax.default_backend() == "gpu", os.environ.get("XLA_FLAGS", "")
    for flag in ("--xla_gpu_deterministic_ops=true", "") if gpu else ("",):
        environment = dict(XLA_FLAGS=f"{given} {flag}".strip(), JAX_COMPILATION_CACHE_DIR=cache)
        for name in names:
            good = next(in_process(resume, name, **environment), False)
            no = "**NO**" if flag or not gpu else "no (not promised)"
            print_row(f"the bits of an interrupted run: {name}", flag or "no flag", "yes" if good else no)


def main():
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # before this process, too, looks at the devices
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", default=CONFIGS)
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--steps_per_dispatch", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each step is timed")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for every config that is timed")
    parser.add_argument("--only", choices=["checks", "speed"])
    there = importlib.util.find_spec("torch") is not None and jax.default_backend() == "gpu"
    choices = dict(nargs="*", choices=["torch", "torch.compile"], default=["torch"] if there else [])
    parser.add_argument("--against", **choices, help="what else takes the same step; torch, where it is installed")
    args = parser.parse_args()
    names = args.configs.split(",")
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}\n", flush=True)
    if args.only != "speed":
        with tempfile.TemporaryDirectory() as cache:
            print_checks(names, cache)
        print()
    if args.only == "checks":
        return
    columns = ["config", "type", "batch", "images/s", "ms a step", "TFLOP/s", "of peak", "memory, GiB"]
    columns.append("first step, s (compiling)")
    for which in args.against:
        columns += [f"images/s of {which}", "its memory"]
    print_row(*columns)
    print_row(*["---"] * len(columns))
    for name in names:
        for dtype in args.dtypes.split(","):
            changes = {"dtype": dtype, "steps_per_dispatch": args.steps_per_dispatch} | step.settings(args.set)
            row = next(in_process(ours, name, changes, args.seconds, time.time()), ["failed"] + [""] * 6)
            for which in args.against:
                row += next(in_process(theirs, which, name, changes, args.seconds), ["failed", ""])
            print_row(name, dtype, *row)


if __name__ == "__main__":
    main()
