"""Times the convolutions of GANs on this machine: XLA's, `jaxgan.ops.conv`'s and, where installed, PyTorch's.

    JAX_PLATFORMS=cpu python benchmarks/conv.py [--only=transposed] [--dtype=bfloat16] [--repeats=15] [--loop]

All take turns in one process, so that other load on the machine hurts them alike; the figures are medians,
in GFLOP/s of 2 x multiply-adds: forward (x1), forward and both gradients (x3), and the gradient by the
kernel of an R1-like penalty |d/dx sum(y ** 2) / 2| ** 2 (x5). `ratio` is XLA's time over ours, `torch` is
PyTorch's time over ours. --loop runs three steps of each inside a `lax.scan`, as steps_per_dispatch does.
--system-malloc does without `jaxgan.core.memory.retain_freed`: XLA's time is then mostly page faults of new buffers.
"""

import argparse
import statistics
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan.core.memory import retain_freed
from jaxgan.ops.conv import conv, conv_transpose

try:
    import torch
except ImportError:
    torch = None


class Shape(NamedTuple):
    name: str
    batch: int
    size: int  # of the larger side: what a convolution reads, a transposed one writes
    channels: int  # there
    features: int  # of the other side
    kernel: int
    stride: int = 1
    groups: int = 1
    transposed: bool = False


SHAPES = [
    Shape("conv 3x3 32x32 128->128", 64, 32, 128, 128, 3),
    Shape("conv 3x3 16x16 256->256", 64, 16, 256, 256, 3),
    Shape("conv 3x3 8x8 512->512", 64, 8, 512, 512, 3),
    Shape("conv 3x3 4x4 512->512", 64, 4, 512, 512, 3),
    Shape("conv 3x3 8x8 128->128", 64, 8, 128, 128, 3),
    Shape("conv 4x4 s2 32x32 64->128", 64, 32, 64, 128, 4, 2),
    Shape("conv 4x4 s2 16x16 128->256", 64, 16, 128, 256, 4, 2),
    Shape("conv 4x4 s2 8x8 256->512", 64, 8, 256, 512, 4, 2),
    Shape("conv 3x3 16x16 64->128", 64, 16, 64, 128, 3),
    Shape("conv 3x3 8x8 128->256", 64, 8, 128, 256, 3),
    Shape("conv 3x3 4x4 256->512", 64, 4, 256, 512, 3),
    Shape("conv 4x4 s2 32x32 64->64", 64, 32, 64, 64, 4, 2),
    Shape("conv 4x4 s2 16x16 128->128", 64, 16, 128, 128, 4, 2),
    Shape("conv 4x4 s2 8x8 256->256", 64, 8, 256, 256, 4, 2),
    Shape("conv 3x3 s2 28x28 1->64", 64, 28, 1, 64, 3, 2),
    Shape("conv 3x3 s2 14x14 64->128", 64, 14, 64, 128, 3, 2),
    Shape("conv 3x3 32x32 3->128", 64, 32, 3, 128, 3),
    Shape("conv 3x3 32x32 256->3", 64, 32, 256, 3, 3),
    Shape("conv 3x3 32x32 64->3", 64, 32, 64, 3, 3),
    Shape("conv 1x1 16x16 128->256", 64, 16, 128, 256, 1),
    Shape("conv 1x1 32x32 256->256", 64, 32, 256, 256, 1),
    Shape("transposed 4x4 s2 4->8 512->256", 64, 8, 256, 512, 4, 2, transposed=True),
    Shape("transposed 4x4 s2 8->16 256->128", 64, 16, 128, 256, 4, 2, transposed=True),
    Shape("transposed 4x4 s2 16->32 128->64", 64, 32, 64, 128, 4, 2, transposed=True),
    Shape("transposed 4x4 s2 16->32 256->128", 64, 32, 128, 256, 4, 2, transposed=True),
    Shape("grouped 3x3 16x16 96x16 (batch 4)", 4, 16, 1536, 1536, 3, groups=96),
    Shape("grouped 3x3 8x8 96x16 (batch 16)", 16, 8, 1536, 1536, 3, groups=96),
    Shape("depthwise 3x3 16x16 256", 64, 16, 256, 256, 3, groups=256),
    Shape("small 3x3 8x8 16->16 (batch 8)", 8, 8, 16, 16, 3),
    Shape("small 4x4 s2 8x8 16->32 (batch 8)", 8, 8, 16, 32, 4, 2),
]


def jax_functions(shape, impl):
    """Returns functions of x and the kernel: forward, forward with both gradients, R1."""
    options = dict(stride=shape.stride, padding=(shape.kernel - 1) // 2, groups=shape.groups, impl=impl)
    forward = partial(conv_transpose if shape.transposed else conv, **options)

    def gradients(x, kernel):
        y, pull = jax.vjp(forward, x, kernel)
        return y, pull(y)

    def penalty(kernel, x):
        return jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.square(forward(x, kernel))) / 2)(x)))

    return forward, gradients, lambda x, kernel: jax.grad(penalty)(kernel, x)


def in_loop(function, steps=3):
    """Repeats the function `steps` times in a row, each with other inputs that depend on the step before."""

    def loop(x, kernel):
        def body(x, _):
            out = function(x, kernel)
            return x + 1e-9 * jax.tree.leaves(out)[0].ravel()[0], out

        return lax.scan(body, x, length=steps)[1]

    return loop


def torch_functions(shape, dtype):
    function = torch.nn.functional.conv_transpose2d if shape.transposed else torch.nn.functional.conv2d
    options = dict(stride=shape.stride, padding=(shape.kernel - 1) // 2, groups=shape.groups)
    size, kernel_shape = operand_shapes(shape)
    channels_last = dict(dtype=getattr(torch, dtype), memory_format=torch.channels_last)
    x = torch.randn(size[0], size[3], *size[1:3]).to(**channels_last).requires_grad_()
    kh, kw, inputs, outputs = kernel_shape
    order = (inputs, outputs) if shape.transposed else (outputs, inputs)
    kernel = (0.05 * torch.randn(*order, kh, kw)).to(**channels_last).requires_grad_()

    def forward():
        with torch.no_grad():
            function(x, kernel, **options)

    def gradients():
        y = function(x, kernel, **options)
        torch.autograd.grad(y, (x, kernel), y.detach())

    def penalty():
        y = function(x, kernel, **options)
        (grads,) = torch.autograd.grad(y.square().sum() / 2, x, create_graph=True)
        torch.autograd.grad(grads.square().sum(), kernel)

    return forward, gradients, penalty


def operand_shapes(shape):
    small = (shape.batch, *[(shape.size + shape.stride - 1) // shape.stride] * 2, shape.features)
    large = (shape.batch, shape.size, shape.size, shape.channels)
    x = small if shape.transposed else large
    outputs = shape.channels if shape.transposed else shape.features
    if shape.transposed:
        return x, (shape.kernel, shape.kernel, x[3], outputs // shape.groups)
    return x, (shape.kernel, shape.kernel, x[3] // shape.groups, outputs)


def medians(runs, repeats):
    """Returns the median seconds of each callable, taking turns; of fewer runs where a round takes seconds."""
    seconds = [[] for _ in runs]
    begin = time.perf_counter()
    for i in range(repeats):
        if i and time.perf_counter() - begin > 20:
            break
        for run, times in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def measure(shape, dtype, repeats, loop):
    """Returns rows of (GFLOP, seconds with XLA, ours and PyTorch or None) for the three functions."""
    rng = np.random.default_rng(0)
    x_shape, kernel_shape = operand_shapes(shape)
    x = jnp.asarray(rng.normal(size=x_shape), dtype)
    kernel = jnp.asarray(0.05 * rng.normal(size=kernel_shape), dtype)
    positions = operand_shapes(shape._replace(transposed=True))[0][:3]
    flops = 2 * np.prod(positions) * shape.kernel**2 * shape.channels * shape.features / shape.groups
    others = torch_functions(shape, dtype) if torch and not loop else (None,) * 3
    rows = []
    for i, (factor, other) in enumerate(zip((1, 3, 5), others, strict=True)):
        functions = [jax_functions(shape, impl)[i] for impl in ("xla", "fast")]
        jitted = [jax.jit(in_loop(f) if loop else f) for f in functions]
        runs = [lambda f=f: jax.block_until_ready(f(x, kernel)) for f in jitted]
        runs += [other] if other else []
        medians(runs, 1)  # compiles
        rows.append((flops * factor * (3 if loop else 1) / 1e9, *medians(runs, repeats), *[None] * (not other)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--loop", action="store_true", help="three steps inside a lax.scan")
    parser.add_argument("--system-malloc", action="store_true", help="do not retain freed memory")
    args = parser.parse_args()
    if not args.system_malloc:
        retain_freed()
    head = "".join(f" | {name:>5}: {'xla':>4} {'fast':>4} {'ratio':>5} {'torch':>5}" for name in ("fwd", "grads", "R1"))
    print(f"{args.dtype:34}{head}   (GFLOP/s, and times over ours)")
    for shape in SHAPES:
        if args.only in shape.name:
            line = f"{shape.name:34}"
            for gigaflops, xla, fast, other in measure(shape, args.dtype, args.repeats, args.loop):
                against = f"{other / fast:5.2f}" if other else "    -"
                line += f" |        {gigaflops / xla:4.0f} {gigaflops / fast:4.0f} {xla / fast:5.2f} {against}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
