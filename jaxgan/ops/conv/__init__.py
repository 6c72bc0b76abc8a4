"""2-D convolutions that are fast to train on a CPU, and XLA's own everywhere else.

XLA's CPU backend convolves well forward at stride 1 in float32 and badly otherwise: strided, transposed
and grouped convolutions, few output channels, bfloat16, and above all the gradient of the kernel. Here
each of those becomes matrix products over patches, or stride-1 convolutions; and 3x3 kernels, and 4x4 ones of
stride 2, multiply tiles of Winograd's, about half as much as any direct way. The results are those of
`lax.conv_general_dilated` up to rounding; bfloat16 is accumulated in float32.

With patches x[n + t] at the taps t of the kernel, a convolution is one function of three arrays,
sum over n, t of <x[n * stride + t - pad], kernel[t], y[n]>, linear in each. Its three derivatives are the
three primitives below: `conv` (x, kernel -> y), `conv_input` (y, kernel -> x: the transposed convolution)
and `conv_kernel` (x, y -> kernel). Each is bilinear, and its derivatives are the other two, so gradients
of any order, forward or reverse, are again these three. Which formulation runs is decided when the
primitive is lowered for a platform: ahead-of-time compiling for a TPU on a machine that only has a CPU
gets XLA's convolutions, and no conditional is left in the program.
"""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


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
    _check(x, kernel, groups, kernel.shape[2] * groups, kernel.shape[3], impl)
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
    if padding in ("SAME", "VALID"):
        extra = [max(k - s, 0) for k, s in zip(kernel.shape, stride)]
        pads = tuple((e // 2, e - e // 2) if padding == "SAME" else (0, 0) for e in extra)
        size = tuple(n * s + e - sum(p) for n, s, e, p in zip(x.shape[1:], stride, extra, pads))
    else:
        pads = _pads(padding)
        size = tuple((n - 1) * s + k - sum(p) for n, s, k, p in zip(x.shape[1:], stride, kernel.shape, pads))
    _check(x, kernel, groups, kernel.shape[2], kernel.shape[3] * groups, impl)
    if min(size) < 1:
        raise ValueError(f"padding={padding} leaves nothing of x {x.shape} with a kernel {kernel.shape}")
    kernel = jnp.swapaxes(kernel, 2, 3)
    return _bind(conv_input_p, x, kernel, size, stride, pads, groups, precision, impl)


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


def _check(x, kernel, groups, channels, features, impl):
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"x {x.shape} and kernel {kernel.shape}: give [B, H, W, C] and [kh, kw, in, out]")
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x is {x.dtype} and kernel {kernel.dtype}: give the same float type")
    if x.shape[3] != channels or channels % groups or features % groups:
        raise ValueError(f"groups={groups}: a kernel {kernel.shape} does not match x {x.shape}")
    if impl not in ("auto", "fast", "xla"):
        raise ValueError(f"impl={impl!r}: give auto, fast or xla")


# The primitives. Parameters: `size`, the spatial shape of the result; then those of the convolution.


def _bind(primitive, a, b, size, stride, padding, groups, precision, impl):
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # a context manager is gone when we are lowered
    options = dict(size=size, stride=stride, padding=padding, groups=groups, precision=precision, impl=impl)
    return primitive.bind(*_vary_alike(a, b), **options)


def _vary_alike(a, b):
    """Marks both as varying over the same axes of a shard_map that checks this, as lax's functions do."""

    types = jax.typeof(a), jax.typeof(b)
    axes_a, axes_b = (t.vma if hasattr(t, "vma") else t.mat.varying for t in types)  # up to and after jax 0.9
    vary = partial(lax.pcast, to="varying") if hasattr(lax, "pcast") else lax.pvary
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
    options = dict(dimension_numbers=_DIMENSIONS, feature_group_count=groups, precision=precision)
    return lax.conv_general_dilated(x, kernel, stride, padding, **options)


def _xla_conv_input(y, kernel, size, stride, padding, groups, precision):
    x = jax.ShapeDtypeStruct((y.shape[0], *size, kernel.shape[2] * groups), y.dtype)
    return jax.linear_transpose(lambda x: _xla_conv(x, kernel, None, stride, padding, groups, precision), x)(y)[0]


def _xla_conv_kernel(x, y, size, stride, padding, groups, precision):
    kernel = jax.ShapeDtypeStruct((*size, x.shape[3] // groups, y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: _xla_conv(x, k, None, stride, padding, groups, precision), kernel)(y)[0]


# The fast formulations, chosen by these rates (GFLOP/s on two cores, batch 64; XLA's own, then ours):
#   kernel gradient by patches     162 -> 310 (3x3, 32x32, 128 -> 128), 231 -> 278 (4x4 s2, 32x32, 64 -> 128)
#   strided by patches             302 -> 408 (4x4 s2, 16x16, 128 -> 256), but 136 -> 96 to 64 features
#   bfloat16 by patches            401 -> 674 (3x3, 16x16, 256 -> 256), but 393 -> 362 to 64 features
#   all taps first, then shifted   47 -> 135 (3x3, 256 -> 3), but 56 -> 44 (64 -> 3) and 407 -> 289 (2x2, 128 -> 64);
#                                  in bfloat16 372 -> 487 (2x2, 128 -> 64), where a wide product pays more
#   1x1 as a product               115 -> 355, its kernel gradient 30 -> 220
#   grouped, one after the other   9 -> 57 (3x3, 96 groups of 16)
# and, measured on a slower machine where a large product runs at 200, one of bfloat16 at 380,
#   3x3 by tiles                   192 -> 299 (32x32, 128 -> 128), 193 -> 416 (8x8, 512);
#                                  bfloat16 185 -> 402, 195 -> 701
#   4x4 s2 by tiles                124 -> 257 (16x16, 128 -> 256); bfloat16 136 -> 309
#   its transpose                  170 -> 273 (8x8 -> 16x16, 256 -> 128); bfloat16 166 -> 424
#   kernel gradients by tiles      patches' 113 -> 136 (3x3, 16x16, 64 -> 64), 105 -> 128 (4x4 s2, 32x32, 64 -> 64);
#                                  bfloat16 105 -> 160, 51 -> 136
#   7x1 by patches                 180 -> 196 (17x17, 192 -> 192)
# Left to XLA: others of stride 1 in float32.
_WIDE = 128  # features that make a patch worth writing out
_NARROW = 32  # channels and features that make tiles worth it, of 4x4 pixels eight times that
_CHUNK_BYTES = 6 << 20  # of patches to make and multiply at a time: half and twice that lose 5 %, all at once a third
_TILED_BYTES = 64 << 20  # of tiles and products to have at a time: all at once is up to 10 % faster


def _dot(a, b, axes_a, axes_b):
    """Contracts the axes; a bfloat16 product is fast in XLA only where its result is float32."""
    result = jnp.promote_types(a.dtype, jnp.float32)
    return lax.dot_general(a, b, ((axes_a, axes_b), ((), ())), preferred_element_type=result)


def _fit(lows, x, taps, size, stride=(1, 1)):
    """The padding of x, `lows` of it at the low ends, for an output of `size`."""
    return tuple((lo, (n - 1) * s + k - h - lo) for lo, h, k, n, s in zip(lows, x.shape[1:], taps, size, stride))


def _pad(x, padding):
    """With zeros, or cropped where it is negative."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)])


def _shifted(x, taps, size, stride, padding):
    """For each tap what it meets at the output positions: kh * kw arrays [B, *size, C]."""
    x = _pad(x, _fit([lo for lo, _ in padding], x, taps, size, stride))
    rows, columns = ((n - 1) * s + 1 for n, s in zip(size, stride))
    at = [(i, j) for i in range(taps[0]) for j in range(taps[1])]
    return [x[:, i : i + rows : stride[0], j : j + columns : stride[1]] for i, j in at]


def _patches(x, taps, size, stride, padding):
    """[B, H, W, C] to [B, *size, kh * kw * C]."""
    bits = x.dtype if x.dtype != jnp.bfloat16 else jnp.uint16  # XLA copies bfloat16 by way of float32
    shifted = _shifted(lax.bitcast_convert_type(x, bits), taps, size, stride, padding)
    return lax.bitcast_convert_type(jnp.concatenate(shifted, 3), x.dtype)


def _interleave(phases, stride):
    """[sh * sw, B, h, w, C] to [B, h * sh, w * sw, C]."""
    _, batch, height, width, channels = phases.shape
    x = phases.reshape(*stride, *phases.shape[1:]).transpose(2, 3, 0, 4, 1, 5)
    return x.reshape(batch, height * stride[0], width * stride[1], channels)


def _pixels_to_channels(x):
    """[B, H, W, C] to [B, H / 2, W / 2, 4 * C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _channels_to_pixels(x):
    """[B, H, W, 4 * C] to [B, 2 * H, 2 * W, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4).swapaxes(2, 3)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def _split(x, n):
    return x.reshape(n, len(x) // n, *x.shape[1:])


def _in_parts(x, size, columns, features=0, limit=_CHUNK_BYTES):
    """Into how many equal parts to split the batch for [b, *size, columns], such as its patches, to stay below a limit.

    The limit is at least the size of the kernel [columns, features], which every part streams through.
    """
    limit = max(limit, x.dtype.itemsize * columns * features)
    most = limit // (x.dtype.itemsize * columns * math.prod(size))
    return next(n for n in range(1, len(x) + 1) if len(x) % n == 0 and (len(x) // n <= most or n == len(x)))


# Winograd's F(2x2, 3x3) (Lavin and Gray 2016, section 4.1): of a 4x4 tile d of the input, a kernel g and an array y
# that the 2x2 outputs are multiplied with, sum <d, g, y> = sum (B d B') (G g G') (A y A'), 16 products for 36. And
# F(2x2, 2x2), 9 products for 16, for 4x4 kernels of stride 2: 2x2 kernels whose channels are those of 2x2 pixels. Here
# a tile is a list of its pixels; sums are made in float32.
_B3 = np.array([(1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)])
_G3 = np.array([(1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)])
_A3 = np.array([(1, 0), (1, 1), (1, -1), (0, -1)])
_B2 = np.array([(1, -1, 0), (0, 1, 0), (0, -1, 1)])
_G2 = _A2 = np.array([(1, 0), (1, 1), (0, 1)])
_TILES = {3: (_B3, _G3, _A3), 2: (_B2, _G2, _A2)}
_TILES = {taps: [np.kron(matrix, matrix) for matrix in matrices] for taps, matrices in _TILES.items()}
_NO_PADS = ((0, 0), (0, 0))


def _tile_taps(kernel, stride, x, channels, features, size):
    """3 or 2, the taps of the tiles by which a convolution of x to `size` is faster, or 0 where none are."""
    taps = {((3, 3), (1, 1)): 3, ((4, 4), (2, 2)): 2}.get((tuple(kernel), stride), 0)
    enough = _NARROW if min(size) > 4 else 8 * _NARROW
    wide = min(channels * math.prod(stride), features) >= enough
    return taps if wide and len(x) * math.prod(size) >= 512 else 0


def _combine(signs, arrays, dtype):
    """signs @ arrays, of 1, 0 and -1, made in float32 and rounded once."""
    arrays = [a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in arrays]
    rows = ([a if sign > 0 else -a for sign, a in zip(row, arrays) if sign] for row in signs)
    return [sum(terms[1:], start=terms[0]).astype(dtype) for terms in rows]


def _input_tiles(x, taps, size, padding):
    return _combine(_TILES[taps][0], _shifted(x, (taps + 1,) * 2, size, (2, 2), padding), x.dtype)


def _kernel_tiles(kernel):
    wide = jnp.promote_types(kernel.dtype, jnp.float32)
    taps, _, *shape = kernel.shape
    return jnp.tensordot(_TILES[taps][1].astype(wide), kernel.astype(wide).reshape(-1, *shape), 1).astype(kernel.dtype)


def _output_tiles(y, taps, size):
    return _combine(_TILES[taps][2], _shifted(y, (2, 2), size, (2, 2), _NO_PADS), y.dtype)


def _tiled_conv(x, kernel, size, padding):
    taps, _, channels, features = kernel.shape
    halves, kernels = [-(-n // 2) for n in size], _kernel_tiles(kernel)

    def part(x):
        products = [_dot(a, b, (3,), (0,)) for a, b in zip(_input_tiles(x, taps, halves, padding), kernels)]
        y = jnp.stack(_combine(_TILES[taps][2].T, products, x.dtype))
        return _interleave(y, (2, 2))[:, : size[0], : size[1]]

    n = _in_parts(x, size, 4 * (channels + features), limit=_TILED_BYTES)
    return part(x) if n == 1 else lax.map(part, _split(x, n)).reshape(-1, *size, features)


def _tiled_conv_input(y, kernel):
    """`_tiled_conv` of 2x2 taps and no padding, transposed: y [B, h, w, O] to [B, H, W, C], H > h, zeros at the end."""
    halves, kernels = [-(-n // 2) for n in y.shape[1:3]], _kernel_tiles(kernel)

    def part(y):
        products = [_dot(a, b, (3,), (1,)) for a, b in zip(_output_tiles(y, 2, halves), kernels)]
        pixels = _combine(_TILES[2][0].T, products, products[0].dtype)
        x = [0, 0, 0, 0]  # the third row and column of a tile's pixels are the first of the next tile's
        for (i, j), pixel in zip(itertools.product(range(3), repeat=2), pixels):
            x[2 * (i % 2) + j % 2] += _pad(pixel, [(k // 2, 1 - k // 2) for k in (i, j)])
        return _interleave(jnp.stack(x).astype(y.dtype), (2, 2))

    n = _in_parts(y, halves, 9 * sum(kernel.shape[2:]), limit=_TILED_BYTES)
    x = part(y) if n == 1 else lax.map(part, _split(y, n))
    return x.reshape(len(y), *x.shape[-3:])


def _tiled_conv_kernel(x, y, taps, padding):
    channels, features = x.shape[3], y.shape[3]
    halves = [-(-n // 2) for n in y.shape[1:3]]

    def part(x, y):  # [n, O, C], of matrices: XLA is slow to make them of contracted axes
        inputs = [tile.reshape(-1, channels) for tile in _input_tiles(x, taps, halves, padding)]
        if y.dtype != jnp.bfloat16:
            outputs = [tile.reshape(-1, features) for tile in _output_tiles(y, taps, halves)]
            return jnp.stack([_dot(a, b, (0,), (0,)) for a, b in zip(outputs, inputs)])
        # It is slow to transpose in bfloat16, and to transpose what it has not written.
        y = lax.optimization_barrier(jnp.moveaxis(y.astype(jnp.float32), 3, 0)).astype(y.dtype)
        outputs = [tile.reshape(features, -1) for tile in _output_tiles(y.reshape(-1, *y.shape[2:], 1), taps, halves)]
        return jnp.stack([_dot(a, b, (1,), (0,)) for a, b in zip(outputs, inputs)])

    n = _in_parts(x, y.shape[1:3], 4 * (channels + features), limit=_TILED_BYTES)
    tiles = _sum_of_parts(part, x, y, n)
    kernel = jnp.tensordot(_TILES[taps][1].T.astype(tiles.dtype), tiles, 1)
    return jnp.swapaxes(kernel, 1, 2).reshape(taps, taps, channels, features).astype(x.dtype)


def _padded_pairs(x, size, padding):
    """The input of a 4x4 convolution of stride 2 for one of 2x2 and stride 1."""
    return _pixels_to_channels(_pad(x, _fit([lo for lo, _ in padding], x, (4, 4), size, (2, 2))))


def _paired_kernel(kernel):
    """Its kernel, [4, 4, C, O] to [2, 2, 4 * C, O]."""
    return _pixels_to_channels(kernel.reshape(1, 4, 4, -1)).reshape(2, 2, -1, kernel.shape[3])


def _sum_of_parts(part, x, y, n):
    """The sum of part(x, y) over n parts of the batch."""
    if n == 1:
        return part(x, y)
    x, y = _split(x, n), _split(y, n)
    whole = jax.eval_shape(part, x[0], y[0])
    start = lax.full_like(x, 0, whole.dtype, whole.shape)
    return lax.scan(lambda total, xy: (total + part(*xy), None), start, (x, y))[0]


def _by_group(function, a, b, groups):
    """function(a, b) for each group of the last axes; in float32, as narrow products in bfloat16 are slow."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    fronts = (jnp.moveaxis(x.astype(wide).reshape(*x.shape[:3], groups, -1), 3, 0) for x in (a, b))
    out = lax.map(lambda ab: function(*ab), tuple(fronts))
    return jnp.moveaxis(out, 0, 3).reshape(*out.shape[1:4], -1).astype(a.dtype)


def _fast_conv(x, kernel, size, stride, padding, groups):
    *taps, channels, features = kernel.shape
    half = x.dtype == jnp.bfloat16
    wide = jnp.promote_types(x.dtype, jnp.float32)
    if groups > 1 and channels == 1 and features == groups:  # depthwise
        shifted = zip(_shifted(x, taps, size, stride, padding), kernel.reshape(-1, features).astype(wide))
        return sum(x.astype(wide) * tap for x, tap in shifted).astype(x.dtype)
    if groups > 1:
        return _by_group(lambda x, k: _fast_conv(x, k, size, stride, padding, 1), x, kernel, groups)
    if taps == [1, 1]:
        (x,) = _shifted(x, taps, size, stride, padding)
        return _dot(x, kernel[0, 0], (3,), (0,)).astype(x.dtype)
    if stride == (1, 1) and math.prod(taps) * features <= (2 * channels if half else channels / 4):
        products = _dot(x, kernel, (3,), (2,)).reshape(*x.shape[:3], -1)  # [B, H, W, kh * kw * O]
        shifted = enumerate(_shifted(products, taps, size, stride, padding))
        return sum(p[..., i * features : (i + 1) * features] for i, p in shifted).astype(x.dtype)
    tile_taps = _tile_taps(taps, stride, x, channels, features, size)
    if tile_taps == 3:
        return _tiled_conv(x, kernel, size, padding)
    if tile_taps == 2:
        return _tiled_conv(_padded_pairs(x, size, padding), _paired_kernel(kernel), size, _NO_PADS)
    if features < _WIDE or (stride == (1, 1) and not half and min(taps) > 1):
        return _xla_conv(x.astype(wide), kernel.astype(wide), size, stride, padding, 1, None).astype(x.dtype)
    kernel = kernel.reshape(-1, features)

    def part(x):
        return _dot(_patches(x, taps, size, stride, padding), kernel, (3,), (0,)).astype(x.dtype)

    return lax.map(part, _split(x, _in_parts(x, size, *kernel.shape))).reshape(-1, *size, features)


def _fast_conv_input(y, kernel, size, stride, padding, groups):
    depthwise = kernel.shape[2] == 1 and kernel.shape[3] == groups
    if groups > 1 and not depthwise:
        return _by_group(lambda y, k: _fast_conv_input(y, k, size, stride, padding, 1), y, kernel, groups)
    if not depthwise and _tile_taps(kernel.shape[:2], stride, y, *kernel.shape[2:], y.shape[1:3]) == 2:
        x = _channels_to_pixels(_tiled_conv_input(y, _paired_kernel(kernel)))
        return _pad(x, [(-lo, n + lo - h) for n, h, (lo, _) in zip(size, x.shape[1:], padding)])
    if not depthwise:
        kernel = jnp.swapaxes(kernel, 2, 3)
    # x[i * stride + a] meets every stride-th tap only: one stride-1 convolution for each phase a.
    small = tuple(-(-n // s) for n, s in zip(size, stride))

    def phase(*a):
        shifts = [i + lo for i, (lo, _) in zip(a, padding)]
        rows, columns = (slice(shift % s, None, s) for shift, s in zip(shifts, stride))
        taps = jnp.flip(kernel[rows, columns], (0, 1))
        if 0 in taps.shape:
            return jnp.zeros((len(y), *small, taps.shape[3]), y.dtype)
        lows = [k - 1 - shift // s for k, shift, s in zip(taps.shape, shifts, stride)]
        return _fast_conv(y, taps, small, (1, 1), _fit(lows, y, taps.shape, small), groups)

    x = _interleave(jnp.stack([phase(a, b) for a in range(stride[0]) for b in range(stride[1])]), stride)
    return x[:, : size[0], : size[1]]


def _fast_conv_kernel(x, y, size, stride, padding, groups):
    channels, features = x.shape[3] // groups, y.shape[3] // groups
    wide = jnp.promote_types(x.dtype, jnp.float32)
    if groups > 1 and channels == features == 1:  # depthwise
        shifted = _shifted(x, size, y.shape[1:3], stride, padding)
        sums = [jnp.sum(x.astype(wide) * y.astype(wide), (0, 1, 2)) for x in shifted]
        return jnp.stack(sums).reshape(*size, 1, -1).astype(x.dtype)
    if groups > 1:
        return _by_group(lambda x, y: _fast_conv_kernel(x, y, size, stride, padding, 1), x, y, groups)
    if stride == (1, 1) and features < channels:  # patches of the one that has fewer channels
        lows = [k - 1 - lo for k, (lo, _) in zip(size, padding)]
        out = _fast_conv_kernel(y, x, size, stride, _fit(lows, y, size, x.shape[1:3]), 1)
        return jnp.swapaxes(jnp.flip(out, (0, 1)), 2, 3)
    tile_taps = _tile_taps(size, stride, x, channels, features, y.shape[1:3])
    if tile_taps == 3:
        return _tiled_conv_kernel(x, y, 3, padding)
    if tile_taps == 2:
        kernel = _tiled_conv_kernel(_padded_pairs(x, y.shape[1:3], padding), y, 2, _NO_PADS)
        return _channels_to_pixels(kernel.reshape(1, 2, 2, -1)).reshape(4, 4, channels, features)
    columns = math.prod(size) * channels
    n = 1 if size == (1, 1) else _in_parts(x, y.shape[1:3], columns, features)

    def part(x, y):
        return _dot(_patches(x, size, y.shape[1:3], stride, padding), y, (0, 1, 2), (0, 1, 2))

    return _sum_of_parts(part, x, y, n).reshape(*size, channels, features).astype(x.dtype)


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
