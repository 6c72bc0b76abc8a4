"""Defines filtering along one axis at a new rate, a linear primitive that is closed under differentiation.

Its transpose is itself, with the filter reversed and both rates exchanged. As with `jaxgan.ops.conv`, the platform
decides when it is lowered how it is computed: on a CPU by the depthwise convolution that is fast there; elsewhere by a
sum of shifted images, which moves bytes only, where cuDNN's depthwise convolutions take 17 to 47 times as long.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgan.ops.conv import conv

fir_p = Primitive("fir")


def fir(x, taps, axis: int, *, up: int, down: int, before: int, size: int, impl="auto"):
    """Returns y[m] = sum over t of taps[t] * x'[down * m + t - before], where x' has up - 1 zeros after each pixel.

    Args:
      x: [B, H, W, C]; pixels outside count as zero.
      taps: the filter, a cross-correlation's.
      axis: 1 or 2.
      before: pixels of x' before the first tap's first pixel; negative: pixels that are passed by.
      size: the length of the result along the axis.
      impl: "auto" is a convolution on a CPU and shifts elsewhere; "convolution" and "shifts" insist on one of them.
    """
    taps = tuple(map(float, taps))
    return fir_p.bind(x, taps=taps, axis=axis, up=up, down=down, before=before, size=size, impl=impl)


def _lower(platform_is_cpu, x, *, impl, **params):
    by_convolution = impl == "convolution" or (impl == "auto" and platform_is_cpu)
    return (_by_convolution if by_convolution else _by_shifts)(x, **params)


def _by_convolution(x, *, taps, axis, up, down, before, size):
    after = (size - 1) * down + len(taps) - before - x.shape[axis] * up
    pads = [(before, after + up - 1, up - 1) if i == axis else (0, 0, 0) for i in range(4)]
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    shape, stride = [1, 1, 1, 1], [1, 1]
    shape[axis - 1], stride[axis - 1] = len(taps), down
    kernel = jnp.tile(jnp.asarray(np.reshape(taps, shape), x.dtype), x.shape[3])
    return conv(x, kernel, stride=tuple(stride), padding="VALID", groups=x.shape[3], precision=lax.Precision.HIGHEST)


def _by_shifts(x, *, taps, axis, up, down, before, size):
    """Sums images that are shifted along the axis, in float32 at least.

    Of P = up / gcd(up, down) consecutive results each has its own taps; the pixel m = P * q + r takes x[s * q + o],
    s = P * down / up, with the weight weights[o][r].
    """
    phases = up // math.gcd(up, down)
    weights, stride = {}, phases * down // up
    for r in range(phases):
        for t, tap in enumerate(taps):
            offset, rest = divmod(down * r + t - before, up)
            if rest == 0 and tap:
                weights.setdefault(offset, [0.0] * phases)[r] = tap
    count, dtype = -(-size // phases), jnp.promote_types(x.dtype, jnp.float32)
    first, last = min(weights, default=0), max(weights, default=0)
    pads = [(0, 0, 0)] * 4
    pads[axis] = (-first, last + stride * (count - 1) + 1 - x.shape[axis], 0)
    padded = lax.pad(x, jnp.zeros((), x.dtype), pads)
    total = 0.0
    for offset, by_phase in sorted(weights.items()):
        begin = offset - first
        part = lax.slice_in_dim(padded, begin, begin + stride * (count - 1) + 1, stride, axis).astype(dtype)
        shape = [phases if i == axis else 1 for i in range(4)]
        part = jnp.expand_dims(part, axis + 1) * jnp.expand_dims(np.reshape(by_phase, shape).astype(dtype), axis)
        total = total + part
    total = jnp.broadcast_to(total, (*x.shape[:axis], count, phases, *x.shape[axis + 1 :])).astype(x.dtype)
    return lax.slice_in_dim(total.reshape(*x.shape[:axis], count * phases, *x.shape[axis + 1 :]), 0, size, 1, axis)


def _transpose(y, x, *, taps, axis, up, down, before, size, impl):
    reverse = dict(taps=taps[::-1], up=down, down=up, before=len(taps) - 1 - before, size=x.aval.shape[axis])
    return [fir_p.bind(y, axis=axis, impl=impl, **reverse)]


def _batch(args, dims, **params):
    x = jnp.moveaxis(args[0], dims[0], 0)
    out = fir_p.bind(x.reshape(-1, *x.shape[2:]), **params)
    return out.reshape(*x.shape[:2], *out.shape[1:]), 0


def _shape(x, *, axis, size, **_):
    return x.update(shape=(*x.shape[:axis], size, *x.shape[axis + 1 :]), weak_type=False)


fir_p.def_abstract_eval(_shape)
fir_p.def_impl(jax.jit(fir_p.bind, static_argnames=("taps", "axis", "up", "down", "before", "size", "impl")))
mlir.register_lowering(fir_p, mlir.lower_fun(partial(_lower, False), multiple_results=False))
mlir.register_lowering(fir_p, mlir.lower_fun(partial(_lower, True), multiple_results=False), "cpu")
ad.deflinear2(fir_p, _transpose)
batching.primitive_batchers[fir_p] = _batch
