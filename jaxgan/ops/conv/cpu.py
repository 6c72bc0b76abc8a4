"""Computes the three primitives quickly on a CPU, from what XLA is fast at there.

XLA's CPU backend convolves well forward at stride 1 in float32 and badly otherwise: transposed and grouped
convolutions, few output channels, bfloat16, and above all the gradient of the kernel, which in a loop such as
`lax.scan` runs below 1 GFLOP/s. Here each of those becomes matrix products (im2col, kn2row) or convolutions of stride
1; and kernels of 3x3, and those of 4x4 with stride 2, use Winograd's tiles, about half as many products as any direct
way. Results are those of `lax.conv_general_dilated` up to rounding; bfloat16 is accumulated in float32.

`conv`, `conv_input` and `conv_kernel` choose among the formulations by these rates, in GFLOP/s on two cores with a
batch of 64, XLA's own before the arrow unless another is named:

    im2col, kernel gradients       162 -> 310 (3x3, 32x32, 128 -> 128)
    im2col, bfloat16               401 -> 674 (3x3, 16x16, 256 -> 256), but 393 -> 362 to 64 features
    kn2row                         47 -> 135 (3x3, 256 -> 3), but 56 -> 44 (64 -> 3) and 407 -> 289 (2x2, 128 -> 64);
                                   bfloat16 372 -> 487 (2x2, 128 -> 64), where a wide product pays more
    1x1 as a product               115 -> 355, its kernel gradient 30 -> 220
    one group after the other      9 -> 57 (3x3, 96 groups of 16)

on a slower machine, where a large product runs at 200 and one of bfloat16 at 380,

    Winograd, 3x3                  192 -> 299 (32x32, 128 -> 128), 193 -> 416 (8x8, 512);
                                   bfloat16 185 -> 402, 195 -> 701
    Winograd, 4x4 of stride 2      124 -> 257 (16x16, 128 -> 256); bfloat16 136 -> 309
    its transpose                  170 -> 273 (8x8 -> 16x16, 256 -> 128); bfloat16 166 -> 424
    kernel gradients (by im2col)   105 -> 128 (4x4 of stride 2, 32x32, 64 -> 64); bfloat16 105 -> 160, 51 -> 136

and on one core of a third, where a large product runs at 79, with batches of 16 and 32,

    kernel gradients (by im2col)   36 -> 47 (3x3, 32x32, 32 -> 32), 47 -> 78 (3x3, 8x8, 64 -> 64),
                                   35 -> 60 (4x4 of stride 2, 32x32, 32 -> 32), 59 -> 99 (16x16, 64 -> 128)

At their narrow end tiles gain less, and lose up to a tenth for 4x4 of stride 2, not its kernel gradient (32 -> 32).
Everything else in float32 is XLA's. There, im2col would make a kernel of 3x3 and stride 2 faster by 5 % (14x14,
64 -> 128: 68 -> 71; by 17 % on two busy cores) and one of 7x1 slower by 6 % (17x17, 160 -> 192: 76 -> 71).

Throughout, `size` is the spatial shape of the result, `stride` and `padding` are pairs, and `taps`, the spatial
positions of a kernel, number (kh, kw).
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
IM2COL_FEATURES = 128  # that make patches in bfloat16 worth writing out
WINOGRAD_CHANNELS = 32  # and features, that make tiles worth it; for results of 4x4 pixels eight times as many
PATCH_BYTES = 6 << 20  # of patches to make and multiply at a time: half and twice that lose 5 %, all at once a third
TILE_BYTES = 64 << 20  # of tiles and products to have at a time: all at once is up to 10 % faster


def conv(x, kernel, size, stride, padding, groups):
    """Convolves x [B, H, W, C] with kernel [kh, kw, C / groups, O] to [B, *size, O]."""
    *taps, channels, features = kernel.shape
    bfloat16 = x.dtype == jnp.bfloat16
    if groups > 1 and channels == 1 and features == groups:
        return _depthwise_conv(x, kernel, size, stride, padding)
    if groups > 1:
        return _by_group(lambda x, k: conv(x, k, size, stride, padding, 1), x, kernel, groups)
    if taps == [1, 1]:
        (x,) = _shifted(x, taps, size, stride, padding)
        return _dot(x, kernel[0, 0], (3,), (0,)).astype(x.dtype)
    if stride == (1, 1) and math.prod(taps) * features <= (2 * channels if bfloat16 else channels / 4):
        return conv_kn2row(x, kernel, size, padding)
    if _suits_winograd(taps, stride, x, channels, features, size):
        return conv_winograd(x, kernel, size, padding)
    if bfloat16 and features >= IM2COL_FEATURES:
        return conv_im2col(x, kernel, size, stride, padding)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    y = lax.conv_general_dilated(x.astype(wide), kernel.astype(wide), stride, padding, dimension_numbers=DIMENSIONS)
    return y.astype(x.dtype)


def conv_input(y, kernel, size, stride, padding, groups):
    """Returns the gradient by the input, [B, *size, C], of y [B, h, w, O] and kernel [kh, kw, C / groups, O]."""
    *taps, channels, features = kernel.shape
    depthwise = channels == 1 and features == groups
    if groups > 1 and not depthwise:
        return _by_group(lambda y, k: conv_input(y, k, size, stride, padding, 1), y, kernel, groups)
    if stride == (2, 2) and not depthwise and _suits_winograd(taps, stride, y, channels, features, y.shape[1:3]):
        return conv_input_winograd(y, kernel, size, padding)
    if not depthwise:
        kernel = jnp.swapaxes(kernel, 2, 3)
    # x[i * stride + a] meets every stride-th tap only: one convolution of stride 1 for each phase a.
    small = tuple(-(-n // s) for n, s in zip(size, stride))

    def phase(*a):
        shifts = [i + lo for i, (lo, _) in zip(a, padding)]
        rows, columns = (slice(shift % s, None, s) for shift, s in zip(shifts, stride))
        taps = jnp.flip(kernel[rows, columns], (0, 1))
        if 0 in taps.shape:
            return jnp.zeros((len(y), *small, taps.shape[3]), y.dtype)
        lows = [k - 1 - shift // s for k, shift, s in zip(taps.shape, shifts, stride)]
        return conv(y, taps, small, (1, 1), _fit(lows, y, taps.shape, small), groups)

    x = _interleave(jnp.stack([phase(a, b) for a in range(stride[0]) for b in range(stride[1])]), stride)
    return x[:, : size[0], : size[1]]


def conv_kernel(x, y, size, stride, padding, groups):
    """Returns the gradient by the kernel, [*size, C / groups, O], of x [B, H, W, C] and y [B, h, w, O]."""
    channels, features = x.shape[3] // groups, y.shape[3] // groups
    if groups > 1 and channels == features == 1:
        return _depthwise_conv_kernel(x, y, size, stride, padding)
    if groups > 1:
        return _by_group(lambda x, y: conv_kernel(x, y, size, stride, padding, 1), x, y, groups)
    if stride == (1, 1) and features < channels:  # patches of the one that has fewer channels
        lows = [k - 1 - lo for k, (lo, _) in zip(size, padding)]
        out = conv_kernel(y, x, size, stride, _fit(lows, y, size, x.shape[1:3]), 1)
        return jnp.swapaxes(jnp.flip(out, (0, 1)), 2, 3)
    if _suits_winograd(size, stride, x, channels, features, y.shape[1:3]):
        return conv_kernel_winograd(x, y, size, padding)
    return conv_kernel_im2col(x, y, size, stride, padding)


def _suits_winograd(taps, stride, x, channels, features, size):
    """Says whether a convolution of x to `size`, or a gradient of it, is faster by Winograd's tiles."""
    enough = WINOGRAD_CHANNELS if min(size) > 4 else 8 * WINOGRAD_CHANNELS
    wide = min(channels * math.prod(stride), features) >= enough
    known = (tuple(taps), stride) in (((3, 3), (1, 1)), ((4, 4), (2, 2)))
    return known and wide and len(x) * math.prod(size) >= 512


# Parts of several formulations.


def _dot(a, b, axes_a, axes_b):
    """Contracts the axes; a bfloat16 product is fast in XLA only where its result is float32."""
    result = jnp.promote_types(a.dtype, jnp.float32)
    return lax.dot_general(a, b, ((axes_a, axes_b), ((), ())), preferred_element_type=result)


def _fit(lows, x, taps, size, stride=(1, 1)):
    """Returns the padding of x for an output of `size`, given that of its low ends."""
    return tuple((lo, (n - 1) * s + k - h - lo) for lo, h, k, n, s in zip(lows, x.shape[1:], taps, size, stride))


def _pad(x, padding):
    """Pads x with zeros, or crops it where the padding is negative."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)])


def _shifted(x, taps, size, stride, padding):
    """Returns for each tap what it meets at the output positions: kh * kw arrays [B, *size, C]."""
    x = _pad(x, _fit([lo for lo, _ in padding], x, taps, size, stride))
    rows, columns = ((n - 1) * s + 1 for n, s in zip(size, stride))
    at = [(i, j) for i in range(taps[0]) for j in range(taps[1])]
    return [x[:, i : i + rows : stride[0], j : j + columns : stride[1]] for i, j in at]


def _patches(x, taps, size, stride, padding):
    """Returns [B, *size, kh * kw * C] of x [B, H, W, C]."""
    bits = x.dtype if x.dtype != jnp.bfloat16 else jnp.uint16  # XLA copies bfloat16 by way of float32
    shifted = _shifted(lax.bitcast_convert_type(x, bits), taps, size, stride, padding)
    return lax.bitcast_convert_type(jnp.concatenate(shifted, 3), x.dtype)


def _interleave(phases, stride):
    """Returns [B, h * sh, w * sw, C] of phases [sh * sw, B, h, w, C]."""
    _, batch, height, width, channels = phases.shape
    x = phases.reshape(*stride, *phases.shape[1:]).transpose(2, 3, 0, 4, 1, 5)
    return x.reshape(batch, height * stride[0], width * stride[1], channels)


def _space_to_depth(x):
    """Returns [B, H / 2, W / 2, 4 * C] of x [B, H, W, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _depth_to_space(x):
    """Returns [B, 2 * H, 2 * W, C] of x [B, H, W, 4 * C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4).swapaxes(2, 3)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def _num_parts(x, size, columns, max_bytes):
    """Returns into how many equal parts to split the batch of x, so that [b, *size, columns] has at most `max_bytes`.

    Where one example has more, each is a part.
    """
    most = max_bytes // (x.dtype.itemsize * columns * math.prod(size))
    return next(n for n in range(1, len(x) + 1) if len(x) % n == 0 and (len(x) // n <= most or n == len(x)))


def _split(x, n):
    return x.reshape(n, len(x) // n, *x.shape[1:])


def _map_parts(function, x, n):
    """Returns function(x), computed for n parts of the batch one after the other."""
    if n == 1:
        return function(x)
    out = lax.map(function, _split(x, n))
    return out.reshape(len(x), *out.shape[2:])


def _sum_parts(function, x, y, n):
    """Returns the sum of function(x, y) over n parts of the batch."""
    if n == 1:
        return function(x, y)
    x, y = _split(x, n), _split(y, n)
    whole = jax.eval_shape(function, x[0], y[0])
    start = lax.full_like(x, 0, whole.dtype, whole.shape)
    return lax.scan(lambda total, xy: (total + function(*xy), None), start, (x, y))[0]


# Groups.


def _by_group(function, a, b, groups):
    """Returns function(a, b) for each group of the last axes; in float32, as narrow products in bfloat16 are slow."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    fronts = (jnp.moveaxis(x.astype(wide).reshape(*x.shape[:3], groups, -1), 3, 0) for x in (a, b))
    out = lax.map(lambda ab: function(*ab), tuple(fronts))
    return jnp.moveaxis(out, 0, 3).reshape(*out.shape[1:4], -1).astype(a.dtype)


def _depthwise_conv(x, kernel, size, stride, padding):
    *taps, _, features = kernel.shape
    wide = jnp.promote_types(x.dtype, jnp.float32)
    shifted = zip(_shifted(x, taps, size, stride, padding), kernel.reshape(-1, features).astype(wide))
    return sum(x.astype(wide) * tap for x, tap in shifted).astype(x.dtype)


def _depthwise_conv_kernel(x, y, size, stride, padding):
    wide = jnp.promote_types(x.dtype, jnp.float32)
    shifted = _shifted(x, size, y.shape[1:3], stride, padding)
    sums = [jnp.sum(x.astype(wide) * y.astype(wide), (0, 1, 2)) for x in shifted]
    return jnp.stack(sums).reshape(*size, 1, -1).astype(x.dtype)


# By matrix products.


def conv_kn2row(x, kernel, size, padding):
    """Convolves with stride 1: multiplies each pixel with the whole kernel, and adds (Vasudevan et al. 2017)."""
    *taps, _, features = kernel.shape
    products = _dot(x, kernel, (3,), (2,)).reshape(*x.shape[:3], -1)  # [B, H, W, kh * kw * O]
    shifted = enumerate(_shifted(products, taps, size, (1, 1), padding))
    return sum(p[..., i * features : (i + 1) * features] for i, p in shifted).astype(x.dtype)


def conv_im2col(x, kernel, size, stride, padding, max_bytes=PATCH_BYTES):
    """Convolves by a product of patches with the kernel, some examples at a time."""
    *taps, _, features = kernel.shape
    kernel = kernel.reshape(-1, features)

    def part(x):
        return _dot(_patches(x, taps, size, stride, padding), kernel, (3,), (0,)).astype(x.dtype)

    max_bytes = max(max_bytes, x.dtype.itemsize * kernel.size)  # every part reads the whole kernel
    return _map_parts(part, x, _num_parts(x, size, len(kernel), max_bytes))


def conv_kernel_im2col(x, y, size, stride, padding, max_bytes=PATCH_BYTES):
    """Computes the gradient by the kernel as a product of patches with y, some examples at a time."""
    channels, features = x.shape[3], y.shape[3]
    columns = math.prod(size) * channels
    max_bytes = max(max_bytes, x.dtype.itemsize * columns * features)  # every part reads and writes the whole result
    n = 1 if size == (1, 1) else _num_parts(x, y.shape[1:3], columns, max_bytes)

    def part(x, y):
        return _dot(_patches(x, size, y.shape[1:3], stride, padding), y, (0, 1, 2), (0, 1, 2))

    return _sum_parts(part, x, y, n).reshape(*size, channels, features).astype(x.dtype)


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


def conv_winograd(x, kernel, size, padding, max_bytes=TILE_BYTES):
    """Convolves with a kernel of 3x3 and stride 1, or of 4x4 and stride 2, some examples at a time."""
    if len(kernel) == 4:
        x, kernel, padding = _paired_input(x, size, padding), _paired_kernel(kernel), _NO_PADS
    taps, _, channels, features = kernel.shape
    halves, kernels = [-(-n // 2) for n in size], _kernel_tiles(kernel)

    def part(x):
        products = [_dot(a, b, (3,), (0,)) for a, b in zip(_input_tiles(x, taps, halves, padding), kernels)]
        y = jnp.stack(_combine(_TILES[taps][2].T, products, x.dtype))
        return _interleave(y, (2, 2))[:, : size[0], : size[1]]

    return _map_parts(part, x, _num_parts(x, size, 4 * (channels + features), max_bytes))


def conv_input_winograd(y, kernel, size, padding, max_bytes=TILE_BYTES):
    """Transposes the convolution with a kernel of 4x4 and stride 2, some examples at a time."""
    kernel = _paired_kernel(kernel)
    halves, kernels = [-(-n // 2) for n in y.shape[1:3]], _kernel_tiles(kernel)

    def part(y):
        products = [_dot(a, b, (3,), (1,)) for a, b in zip(_output_tiles(y, 2, halves), kernels)]
        pixels = _combine(_TILES[2][0].T, products, products[0].dtype)
        x = [0, 0, 0, 0]  # the third row and column of a tile's pixels are the first of the next tile's
        for (i, j), pixel in zip(itertools.product(range(3), repeat=2), pixels):
            x[2 * (i % 2) + j % 2] += _pad(pixel, [(k // 2, 1 - k // 2) for k in (i, j)])
        return _interleave(jnp.stack(x).astype(y.dtype), (2, 2))

    x = _map_parts(part, y, _num_parts(y, halves, 9 * sum(kernel.shape[2:]), max_bytes))
    x = _depth_to_space(x)  # without padding, and with zeros at the end
    return _pad(x, [(-lo, n + lo - h) for n, h, (lo, _) in zip(size, x.shape[1:], padding)])


def conv_kernel_winograd(x, y, size, padding, max_bytes=TILE_BYTES):
    """Computes the gradient by a kernel of 3x3 and stride 1, or of 4x4 and stride 2, some examples at a time."""
    if size == (4, 4):
        kernel = conv_kernel_winograd(_paired_input(x, y.shape[1:3], padding), y, (2, 2), _NO_PADS, max_bytes)
        return _depth_to_space(kernel.reshape(1, 2, 2, -1)).reshape(4, 4, x.shape[3], y.shape[3])
    taps, channels, features = size[0], x.shape[3], y.shape[3]
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

    tiles = _sum_parts(part, x, y, _num_parts(x, y.shape[1:3], 4 * (channels + features), max_bytes))
    kernel = jnp.tensordot(_TILES[taps][1].T.astype(tiles.dtype), tiles, 1)
    return jnp.swapaxes(kernel, 1, 2).reshape(taps, taps, channels, features).astype(x.dtype)


def _combine(signs, arrays, dtype):
    """Returns signs @ arrays, of 1, 0 and -1, made in float32 and rounded once."""
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


def _paired_input(x, size, padding):
    """Returns the input of a 4x4 convolution of stride 2 for one of 2x2 and stride 1 without padding."""
    return _space_to_depth(_pad(x, _fit([lo for lo, _ in padding], x, (4, 4), size, (2, 2))))


def _paired_kernel(kernel):
    """Returns its kernel, [2, 2, 4 * C, O] of [4, 4, C, O]."""
    return _space_to_depth(kernel.reshape(1, 4, 4, -1)).reshape(2, 2, -1, kernel.shape[3])
