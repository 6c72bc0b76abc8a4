"""Defines three bilinear primitives that are closed under differentiation: a convolution and its two gradients.

A convolution is one function of three arrays, sum over n, t of <x[n * stride + t - pad], kernel[t], y[n]> with t the
taps (the spatial positions) of the kernel, linear in each. Its three derivatives are the primitives: `conv` (x, kernel
-> y), `conv_input` (y, kernel -> x: the transposed convolution) and `conv_kernel` (x, y -> kernel). Each is bilinear
and its derivatives are the other two, so gradients of any order, forward or reverse, are again these three.

How one is computed is decided when it is lowered for a platform: ahead-of-time compiling for a TPU on a machine that
only has a CPU gets XLA's convolutions, and no conditional is left in the program.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgan.ops.conv import cpu, gpu


def bind(primitive, a, b, size, stride, padding, groups, precision, impl):
    """Applies a primitive to two arrays.

    Args:
      size: the spatial shape of the result, (H', W') or (kh, kw).
      stride, padding, groups, precision, impl: those of the convolution, as in `api.conv`; pairs for the first two.
    """
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # what a context manager set is gone at the lowering
    options = dict(size=size, stride=stride, padding=padding, groups=groups, precision=precision, impl=impl)
    return primitive.bind(*_vary_alike(a, b), **options)


def _vary_alike(a, b):
    """Marks both as varying over the same axes of a shard_map that checks this, as lax's functions do."""

    types = jax.typeof(a), jax.typeof(b)
    axes_a, axes_b = (t.vma if hasattr(t, "vma") else t.mat.varying for t in types)  # up to and after jax 0.9
    vary = partial(lax.pcast, to="varying") if hasattr(lax, "pcast") else lax.pvary
    return vary(a, tuple(axes_b - axes_a)), vary(b, tuple(axes_a - axes_b))


def _define(name, shape, on_cpu, transposed):
    """Returns a primitive of two arrays, with shape(a.shape, b.shape, size, groups).

    Args:
      on_cpu: its implementation for CPUs.
      transposed: makes one of a, b, size and a function convolve(x, kernel) -> y.
    """
    primitive = Primitive(name)

    def abstract(a, b, *, size, groups, **_):
        return a.update(shape=shape(a.shape, b.shape, size, groups), weak_type=False)

    def lower(platform, a, b, *, size, stride, padding, groups, precision, impl):
        known = isinstance(a.shape[0], int)  # the number of images; an exported program may leave it open
        platform = platform if impl == "auto" and known else None
        if impl == "fast" or platform == "cpu":
            return on_cpu(a, b, size, stride, padding, groups)
        function = gpu.conv if platform == "cuda" else _xla_conv
        options = dict(stride=stride, padding=padding, groups=groups, precision=precision)
        return transposed(a, b, size, groups, partial(function, **options))

    primitive.def_abstract_eval(abstract)
    params = ("size", "stride", "padding", "groups", "precision", "impl")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=params))
    for platform in (None, "cpu", "cuda"):
        rule = mlir.lower_fun(partial(lower, platform), multiple_results=False)
        mlir.register_lowering(primitive, rule, platform)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    return primitive


def _batch(primitive, args, dims, *, groups, **params):
    a, b = args
    if dims[1] is None and primitive is not conv_kernel_p:  # more images for the same kernel
        a = jnp.moveaxis(a, dims[0], 0)
        out = primitive.bind(a.reshape(-1, *a.shape[2:]), b, groups=groups, **params)
        return out.reshape(*a.shape[:2], *out.shape[1:]), 0
    # Every array has its groups in its last axis: what is mapped over becomes more of them.
    (n,) = {x.shape[d] for x, d in zip(args, dims) if d is not None}

    def merge(x, dim):
        x = jnp.moveaxis(x, dim, 3) if dim is not None else jnp.stack([x] * n, 3)
        return x.reshape(*x.shape[:3], -1)

    out = primitive.bind(merge(a, dims[0]), merge(b, dims[1]), groups=groups * n, **params)
    return out.reshape(*out.shape[:3], n, -1), 3


def _xla_conv(x, kernel, stride, padding, groups, precision):
    options = dict(dimension_numbers=cpu.DIMENSIONS, feature_group_count=groups, precision=precision)
    return lax.conv_general_dilated(x, kernel, stride, padding, **options)


def _y(x, kernel, size, groups, convolve):
    return convolve(x, kernel)


def _x(y, kernel, size, groups, convolve):
    x = jax.ShapeDtypeStruct((y.shape[0], *size, kernel.shape[2] * groups), y.dtype)
    return jax.linear_transpose(lambda x: convolve(x, kernel), x)(y)[0]


def _kernel(x, y, size, groups, convolve):
    kernel = jax.ShapeDtypeStruct((*size, x.shape[3] // groups, y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(y)[0]


conv_p = _define("conv", lambda x, k, size, groups: (x[0], *size, k[3]), cpu.conv, _y)
conv_input_p = _define("conv_input", lambda y, k, size, groups: (y[0], *size, k[2] * groups), cpu.conv_input, _x)
conv_kernel_p = _define(
    "conv_kernel", lambda x, y, size, groups: (*size, x[3] // groups, y[3]), cpu.conv_kernel, _kernel
)


ad.defbilinear(
    conv_p,
    lambda ct, x, k, size, **params: conv_input_p.bind(ct, k, size=x.aval.shape[1:3], **params),
    lambda ct, x, k, size, **params: conv_kernel_p.bind(x, ct, size=k.aval.shape[:2], **params),
)
ad.defbilinear(
    conv_input_p,
    lambda ct, y, k, size, **params: conv_p.bind(ct, k, size=y.aval.shape[1:3], **params),
    lambda ct, y, k, size, **params: conv_kernel_p.bind(ct, y, size=k.aval.shape[:2], **params),
)
ad.defbilinear(
    conv_kernel_p,
    lambda ct, x, y, size, **params: conv_input_p.bind(y, ct, size=x.aval.shape[1:3], **params),
    lambda ct, x, y, size, **params: conv_p.bind(x, ct, size=y.aval.shape[1:3], **params),
)
