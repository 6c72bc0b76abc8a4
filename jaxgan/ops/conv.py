"""2-D convolutions that are fast to train on a CPU, and XLA's own everywhere else.

XLA's CPU backend convolves well forward at stride 1 in float32 and badly otherwise: strided, transposed
and grouped convolutions, few output channels, bfloat16, and above all the gradient of the kernel. Here
each of those becomes matrix products over patches, or stride-1 convolutions. The results are those of
`lax.conv_general_dilated` up to rounding; bfloat16 is accumulated in float32.

With patches x[n + t] at the taps t of the kernel, a convolution is one function of three arrays,
sum over n, t of <x[n * stride + t - pad], kernel[t], y[n]>, linear in each. Its three derivatives are the
three primitives below: `conv` (x, kernel -> y), `conv_input` (y, kernel -> x: the transposed convolution)
and `conv_kernel` (x, y -> kernel). Each is bilinear, and its derivatives are the other two, so gradients
of any order, forward or reverse, are again these three. Which formulation runs is decided when the
primitive is lowered for a platform: ahead-of-time compiling for a TPU on a machine that only has a CPU
gets XLA's convolutions, and no conditional is left in the program.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_CHUNK_BYTES = 4 << 20  # patches made and multiplied at a time: they should still be in the cache
_WIDE = 128  # output channels from which a patch is reused enough to be worth writing out


def conv(x, kernel, *, stride=1, padding="SAME", groups=1, precision=None, impl="auto"):
    """Convolves x [B, H, W, C] with kernel [kh, kw, C / groups, O] to [B, H', W', O].

    Args:
      stride: an int or (sh, sw).
      padding: "SAME" (H' = ceil(H / stride)), "VALID", an int for all sides or ((top, bottom), (left, right)).
      precision: as for `lax.conv_general_dilated`; the fast formulations do without, they are exact.
      impl: "auto" is the fast formulation on CPU and XLA's convolution elsewhere, "fast" and "xla" insist.
    """
    stride = _pair(stride)
    if padding in ("SAME", "VALID"):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], stride, padding)
    padding = _pads(padding)
    _check(x, kernel, groups, kernel.shape[2] * groups, impl)
    size = tuple((n + sum(p) - k) // s + 1 for n, p, k, s in zip(x.shape[1:], padding, kernel.shape, stride))
    if min(size) < 1:
        raise ValueError(f"padding={padding}: a kernel {kernel.shape} does not fit into x {x.shape}")
    return _bind(conv_p, x, kernel, size, stride, padding, groups, precision, impl)


def conv_transpose(x, kernel, *, stride=1, padding="SAME", groups=1, precision=None, impl="auto"):
    """The gradient of `conv` by its input: x [B, H, W, C], kernel [kh, kw, C, O / groups] to [B, H', W', O].

    This is PyTorch's ConvTranspose2d: kernel 4, stride 2, padding 1 doubles the size. `padding` is that of
    the convolution transposed: H' = (H - 1) * stride + kh - top - bottom for an int or pairs, H * stride
    for "SAME" and H * stride + max(kh - stride, 0) for "VALID". Sizes and pads of the two names, and the
    result for a kernel flipped in both spatial axes, are those of `lax.conv_transpose`.
    """
    stride = _pair(stride)
    taps = kernel.shape[:2]
    if padding == "SAME":
        extra = [max(k - s, 0) for k, s in zip(taps, stride)]
        padding = [(e // 2, e - e // 2) for e in extra]
        size = tuple(n * s for n, s in zip(x.shape[1:], stride))
    elif padding == "VALID":
        padding = [(0, 0)] * 2
        size = tuple(n * s + max(k - s, 0) for n, k, s in zip(x.shape[1:], taps, stride))
    else:
        padding = _pads(padding)
        size = tuple((n - 1) * s + k - sum(p) for n, k, s, p in zip(x.shape[1:], taps, stride, padding))
    _check(x, kernel, groups, kernel.shape[2], impl)
    if min(size) < 1:
        raise ValueError(f"padding={padding} leaves nothing of x {x.shape} with a kernel {kernel.shape}")
    kernel = jnp.swapaxes(kernel, 2, 3)
    return _bind(conv_input_p, x, kernel, size, stride, _pads(padding), groups, precision, impl)


def conv_general_dilated(
    lhs,
    rhs,
    window_strides,
    padding,
    lhs_dilation=None,
    rhs_dilation=None,
    dimension_numbers=None,
    feature_group_count=1,
    batch_group_count=1,
    precision=None,
    preferred_element_type=None,
    impl="auto",
):
    """`lax.conv_general_dilated`, by `conv` where that applies: 2-D, NHWC and HWIO, floats, not dilated.

    For modules that let their convolution be chosen: `nn.Conv(..., conv_general_dilated=conv_general_dilated)`.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if (
        lhs.ndim == 4
        and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _DIMENSIONS)
        and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ()), batch_group_count))
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and preferred_element_type in (None, lhs.dtype)
        and padding != "SAME_LOWER"
    ):
        options = dict(groups=feature_group_count, precision=precision, impl=impl)
        return conv(lhs, rhs, stride=window_strides, padding=padding, **options)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        batch_group_count,
        precision,
        preferred_element_type,
    )


def _pair(stride):
    pair = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if len(pair) != 2 or any(not isinstance(s, int) or s < 1 for s in pair):
        raise ValueError(f"stride={stride!r}: give a positive int or two")
    return pair


def _pads(padding):
    try:
        pads = ((padding,) * 2,) * 2 if isinstance(padding, int) else tuple((lo, hi) for lo, hi in padding)
    except (TypeError, ValueError):
        pads = ()
    if len(pads) != 2:
        raise ValueError(f'padding={padding!r}: give "SAME", "VALID", an int or ((top, bottom), (left, right))')
    return pads


def _check(x, kernel, groups, channels, impl):
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"x {x.shape} and kernel {kernel.shape}: give [B, H, W, C] and [kh, kw, in, out]")
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x is {x.dtype} and kernel {kernel.dtype}: give the same float type")
    if x.shape[3] != channels or channels % groups or kernel.shape[3] % groups:
        raise ValueError(f"groups={groups}: a kernel {kernel.shape} does not match x {x.shape}")
    if impl not in ("auto", "fast", "xla"):
        raise ValueError(f"impl={impl!r}: give auto, fast or xla")


# The primitives. Parameters: `size`, the spatial shape of the result; then those of the convolution.


def _bind(primitive, a, b, size, stride, padding, groups, precision, impl):
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # a context manager is gone when we are lowered
    a, b = _vary_alike(a, b)
    options = dict(stride=stride, padding=padding, groups=groups, precision=precision, impl=impl)
    return primitive.bind(a, b, size=size, **options)


def _vary_alike(a, b):
    """Marks both as varying over the same axes of a shard_map that checks this, as lax's functions do."""

    def varying(x):
        aval = jax.typeof(x)
        return aval.vma if hasattr(aval, "vma") else aval.mat.varying  # before and since jax 0.9

    def vary(x, axes):
        if not axes:
            return x
        return lax.pcast(x, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(x, axes)

    axes_a, axes_b = varying(a), varying(b)
    return vary(a, tuple(axes_b - axes_a)), vary(b, tuple(axes_a - axes_b))


def _rule(name, shape, fast, xla):
    """A primitive of two arrays, with shape(a.shape, b.shape, size, groups) and its two implementations."""
    primitive = Primitive(name)

    def abstract(a, b, *, size, groups, **_):
        return a.update(shape=shape(a.shape, b.shape, size, groups), weak_type=False)

    def lower(platform_fast, a, b, *, size, stride, padding, groups, precision, impl):
        if impl == "fast" or (impl == "auto" and platform_fast):
            return fast(a, b, size, stride, padding, groups)
        return xla(a, b, size, stride, padding, groups, precision)

    primitive.def_abstract_eval(abstract)
    params = ("size", "stride", "padding", "groups", "precision", "impl")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=params))
    mlir.register_lowering(primitive, mlir.lower_fun(partial(lower, False), multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(partial(lower, True), multiple_results=False), "cpu")
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


# XLA's own.


def _xla_conv(x, kernel, size, stride, padding, groups, precision):
    return lax.conv_general_dilated(
        x, kernel, stride, padding, dimension_numbers=_DIMENSIONS, feature_group_count=groups, precision=precision
    )


def _xla_conv_input(y, kernel, size, stride, padding, groups, precision):
    x = jax.ShapeDtypeStruct((y.shape[0], *size, kernel.shape[2] * groups), y.dtype)
    return jax.linear_transpose(lambda x: _xla_conv(x, kernel, None, stride, padding, groups, precision), x)(y)[0]


def _xla_conv_kernel(x, y, size, stride, padding, groups, precision):
    kernel = jax.ShapeDtypeStruct((*size, x.shape[3] // groups, y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: _xla_conv(x, k, None, stride, padding, groups, precision), kernel)(y)[0]


# The fast formulations. Rates in the comments: GFLOP/s on two cores, XLA's first.


def _dot(a, b, axes_a, axes_b):
    """Contracts the axes; a bfloat16 product is fast in XLA only where its result is float32."""
    result = jnp.promote_types(a.dtype, jnp.float32)
    return lax.dot_general(a, b, ((axes_a, axes_b), ((), ())), preferred_element_type=result)


def _patches(x, taps, size, stride, padding):
    """[B, H, W, C] to [B, *size, kh * kw * C]: what each output position sees."""
    pads = [(lo, (n - 1) * s + k - h - lo, 0) for h, (lo, _), k, n, s in zip(x.shape[1:], padding, taps, size, stride)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    ends = [(n - 1) * s + 1 for n, s in zip(size, stride)]
    shifted = [
        x[:, i : i + ends[0] : stride[0], j : j + ends[1] : stride[1]] for i in range(taps[0]) for j in range(taps[1])
    ]
    return jnp.concatenate(shifted, 3)


def _chunks(batch, bytes_each):
    """Into how many equal parts to split a batch so that each is within _CHUNK_BYTES."""
    return next(
        n for n in range(1, batch + 1) if batch % n == 0 and (batch // n * bytes_each <= _CHUNK_BYTES or n == batch)
    )


def _split(x, n):
    return x.reshape(n, x.shape[0] // n, *x.shape[1:])


def _by_group(function, a, b, groups):
    """function(a, b) for each group of the last axes."""

    def to_front(x):
        return jnp.moveaxis(x.reshape(*x.shape[:3], groups, -1), 3, 0)

    out = lax.map(lambda ab: function(*ab), (to_front(a), to_front(b)))
    return jnp.moveaxis(out, 0, 3).reshape(*out.shape[1:4], -1)


def _fast_conv(x, kernel, size, stride, padding, groups):
    if groups > 1:
        return _by_group(lambda x, k: _fast_conv(x, k, size, stride, padding, 1), x, kernel, groups)
    taps, channels, features = kernel.shape[:2], *kernel.shape[2:]
    if taps == (1, 1):
        x = _patches(x, taps, size, stride, padding)
        return _dot(x, kernel[0, 0], (3,), (0,)).astype(x.dtype)
    if stride == (1, 1) and math.prod(taps) * features <= 2 * channels:
        return _fast_conv_few(x, kernel, size, padding)
    if features < _WIDE or (stride == (1, 1) and x.dtype != jnp.bfloat16):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return _xla_conv(wide, kernel.astype(wide.dtype), size, stride, padding, 1, None).astype(x.dtype)
    columns = kernel.reshape(-1, features)

    def part(x):
        return _dot(_patches(x, taps, size, stride, padding), columns, (3,), (0,)).astype(x.dtype)

    n = _chunks(x.shape[0], math.prod(size) * columns.shape[0] * x.dtype.itemsize)
    return lax.map(part, _split(x, n)).reshape(-1, *size, features)


def _fast_conv_few(x, kernel, size, padding):
    """Stride 1, few outputs: every tap's product at every position, then shifted into place and added."""
    products = _dot(x, kernel, (3,), (2,))  # [B, H, W, kh, kw, O]
    pads = [(lo, n + k - 1 - h - lo, 0) for h, (lo, _), n, k in zip(x.shape[1:], padding, size, kernel.shape)]
    products = lax.pad(products, jnp.zeros((), products.dtype), [(0, 0, 0), *pads, *[(0, 0, 0)] * 3])
    taps = [(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
    return sum(products[:, i : i + size[0], j : j + size[1], i, j] for i, j in taps).astype(x.dtype)


def _fast_conv_input(y, kernel, size, stride, padding, groups):
    if groups > 1:
        return _by_group(lambda y, k: _fast_conv_input(y, k, size, stride, padding, 1), y, kernel, groups)
    # x[i * stride + a] sees every stride-th tap only: one stride-1 convolution for each phase a.
    phase_size = [-(-n // s) for n, s in zip(size, stride)]

    def phase(a, b):
        firsts = [(i + lo) % s for i, (lo, _), s in zip((a, b), padding, stride)]
        taps = jnp.swapaxes(jnp.flip(kernel[firsts[0] :: stride[0], firsts[1] :: stride[1]], (0, 1)), 2, 3)
        if 0 in taps.shape:
            return jnp.zeros((y.shape[0], *phase_size, taps.shape[3]), y.dtype)
        lows = [k - 1 - (i + lo) // s for i, (lo, _), s, k in zip((a, b), padding, stride, taps.shape)]
        pads = [(lo, n + k - 1 - h - lo) for lo, n, k, h in zip(lows, phase_size, taps.shape, y.shape[1:])]
        return _fast_conv(y, taps, tuple(phase_size), (1, 1), tuple(pads), 1)

    rows = [jnp.stack([phase(a, b) for b in range(stride[1])], 3) for a in range(stride[0])]
    x = jnp.stack(rows, 2)  # [B, H / s, s, W / s, s, C]
    x = x.reshape(x.shape[0], x.shape[1] * stride[0], x.shape[3] * stride[1], -1)
    return x[:, : size[0], : size[1]]


def _fast_conv_kernel(x, y, size, stride, padding, groups):
    if groups > 1:
        return _by_group(lambda x, y: _fast_conv_kernel(x, y, size, stride, padding, 1), x, y, groups)
    if stride == (1, 1) and y.shape[3] < x.shape[3]:  # patches of the one with fewer channels
        lows = [k - 1 - lo for k, (lo, _) in zip(size, padding)]
        pads = tuple((lo, h + k - 1 - n - lo) for lo, h, k, n in zip(lows, x.shape[1:], size, y.shape[1:]))
        return jnp.swapaxes(jnp.flip(_fast_conv_kernel(y, x, size, stride, pads, 1), (0, 1)), 2, 3)

    def part(x, y):
        return _dot(_patches(x, size, y.shape[1:3], stride, padding), y, (0, 1, 2), (0, 1, 2))

    columns = math.prod(size) * x.shape[3]
    n = _chunks(x.shape[0], math.prod(y.shape[1:3]) * columns * x.dtype.itemsize)
    if n == 1:
        out = part(x, y)
    else:
        start = lax.full_like(y, 0, jnp.promote_types(x.dtype, jnp.float32), (columns, y.shape[3]))
        out = lax.scan(lambda total, xy: (total + part(*xy), None), start, (_split(x, n), _split(y, n)))[0]
    return out.reshape(*size, x.shape[3], y.shape[3]).astype(x.dtype)


conv_p = _rule("conv", lambda x, k, size, groups: (x[0], *size, k[3]), _fast_conv, _xla_conv)
conv_input_p = _rule(
    "conv_input", lambda y, k, size, groups: (y[0], *size, k[2] * groups), _fast_conv_input, _xla_conv_input
)
conv_kernel_p = _rule(
    "conv_kernel", lambda x, y, size, groups: (*size, x[3] // groups, y[3]), _fast_conv_kernel, _xla_conv_kernel
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
