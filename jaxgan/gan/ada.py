"""The augmentation pipe of StyleGAN2-ADA (Karras et al. 2020) and its variants, differentiable in the pixels.

See `augment.py` for what all augmentations have in common.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.core import rng

_einsum = functools.partial(jnp.einsum, precision="highest")  # pixels are not to be rounded to bfloat16 on a TPU

_BLIT = dict(xflip=1.0, rotate90=1.0, xint=1.0)
_GEOM = dict(scale=1.0, rotate=1.0, aniso=1.0, xfrac=1.0)
_COLOR = dict(brightness=1.0, contrast=1.0, lumaflip=1.0, hue=1.0, saturation=1.0)
_FILTER, _NOISE, _CUTOUT = dict(imgfilter=1.0), dict(noise=1.0), dict(cutout=1.0)

# Transform -> multiplier of its probability. The names are those of the official code, but for "r3gan" (Huang et al.
# 2024), where colours change half as often, and its successor "r3gan2", where noise fills the holes of cutout.
PIPES = {
    "blit": _BLIT,
    "geom": _GEOM,
    "color": _COLOR,
    "filter": _FILTER,
    "noise": _NOISE,
    "cutout": _CUTOUT,
    "bg": _BLIT | _GEOM,
    "bgc": _BLIT | _GEOM | _COLOR,
    "bgcf": _BLIT | _GEOM | _COLOR | _FILTER,
    "bgcfn": _BLIT | _GEOM | _COLOR | _FILTER | _NOISE,
    "bgcfnc": _BLIT | _GEOM | _COLOR | _FILTER | _NOISE | _CUTOUT,
    "r3gan": _BLIT | _GEOM | {name: 0.5 for name in _COLOR} | _CUTOUT,
    "r3gan2": _BLIT | _GEOM | {name: 0.5 for name in _COLOR} | _CUTOUT | dict(filling=1.0),
}


def ada(keys: jax.Array, images: jax.Array, p, pipe: dict[str, float] = PIPES["bgc"]) -> jax.Array:
    """Applies the pipe of StyleGAN2-ADA (Karras et al. 2020, appendix B).

    Each transform has the probability `pipe[name]` * p.

    Arbitrary rotation has two chances, before and after the anisotropic scaling, that together make `pipe` * p. As in
    the official code the wavelet that resamples is not quite symmetric: a flipped image is also shifted, by 0.1 pixels.

    Raises:
        ValueError: for an unknown name in `pipe`, or images of another number of channels than 1, 3 or 4.
    """
    return transform(images, sample_parameters(keys, p, pipe, images.shape[1:]))


def sample_parameters(keys: jax.Array, p, pipe: dict[str, float], shape: tuple[int, int, int]) -> dict[str, jax.Array]:
    """Draws the parameters of each transform of `pipe`, float32 [B, n] as listed in `_DRAWS`; 0 where it did not fire.

    "noise" is the noise itself, [B, *shape], and "filling" that for the holes of "cutout", of which each has some. A
    transform's draws do not depend on what else is in the pipe.
    """
    if unknown := set(pipe) - {*_DRAWS, "filling"}:
        raise ValueError(f"no transform {', '.join(sorted(unknown))}: there are {', '.join(_DRAWS)} and filling")

    # All transforms' draws at once: a call for each would multiply the time to compile.
    keys_fires, keys_uniform, keys_normal, keys_noise = jnp.moveaxis(
        jax.vmap(lambda key: jax.random.split(key, 4))(keys), 1, 0
    )
    each = (len(_DRAWS), 4)
    fires, u, z = rng.uniform(keys_fires, each), rng.uniform(keys_uniform, each), rng.normal(keys_normal, each)
    parameters = {}
    for name, multiplier in pipe.items():
        if name == "filling":
            parameters[name] = rng.normal(rng.fold(keys_noise, 1), shape)
            continue
        i, chances, probability = list(_DRAWS).index(name), 1, multiplier * p
        if name == "rotate":
            chances, probability = 2, 1.0 - jnp.sqrt(1.0 - jnp.clip(probability, 0.0, 1.0))
        if name == "imgfilter":
            chances = 4
        parameters[name] = jnp.where(fires[:, i, :chances] < probability, _DRAWS[name](u[:, i], z[:, i]), 0.0)
    if "noise" in pipe:
        parameters["noise"] = parameters["noise"][:, :, None, None] * rng.normal(keys_noise, shape)
    return parameters


def transform(images: jax.Array, parameters: dict[str, jax.Array]) -> jax.Array:
    """Applies the transforms whose parameters are given, each stage only to the examples that it changes."""
    if images.shape[3] not in (1, 3, 4):
        raise ValueError(f"images have {images.shape[3]} channels: give 3, 1, or 4 (RGBA)")
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    for names, stage in _STAGES:
        given = {name: parameters[name] for name in names if name in parameters}
        if given:
            fired = [jnp.any(value != 0, axis=tuple(range(1, value.ndim))) for value in given.values()]
            wide = where_fired(functools.reduce(jnp.logical_or, fired), stage(wide, **given), wide)
    return wide.astype(images.dtype)


def where_fired(fired: jax.Array, changed: jax.Array, images: jax.Array) -> jax.Array:
    """Returns the changed images of the examples that fired, [B], and the others bit for bit."""
    return jnp.where(fired[:, None, None, None], changed, images)


# Name -> parameters [B, n] from uniform u and normal z, both [B, 4]. Zeros must mean the identity, so factors are given
# by their log2. Never reorder: the position is part of what makes a run repeatable.
_DRAWS = {
    "xflip": lambda u, z: jnp.floor(2.0 * u[:, :1]),  # 1: flipped
    "rotate90": lambda u, z: jnp.floor(4.0 * u[:, :1]),  # quarter turns
    "xint": lambda u, z: 0.125 * (2.0 * u[:, :2] - 1.0),  # shift along x, y, of the image's sides; rounded to pixels
    "scale": lambda u, z: 0.2 * z[:, :1],  # log2 of the factor
    "rotate": lambda u, z: math.pi * (2.0 * u[:, :2] - 1.0),  # angles before and after "aniso", each with its chance
    "aniso": lambda u, z: 0.2 * z[:, :1],  # log2 of the factor along x; y has the inverse
    "xfrac": lambda u, z: 0.125 * z[:, :2],  # shift along x, y, of the image's sides
    "brightness": lambda u, z: 0.2 * z[:, :1],  # added
    "contrast": lambda u, z: 0.5 * z[:, :1],  # log2 of the factor
    "lumaflip": lambda u, z: jnp.floor(2.0 * u[:, :1]),  # 1: the grey axis is reversed
    "hue": lambda u, z: math.pi * (2.0 * u[:, :1] - 1.0),  # angle about the grey axis
    "saturation": lambda u, z: z[:, :1],  # log2 of the factor
    "imgfilter": lambda u, z: z,  # log2 of each band's gain, lowest band first, each with its chance
    "noise": lambda u, z: 0.1 * z[:, :1],  # standard deviation; its sign does not matter
    "cutout": lambda u, z: jnp.pad(u[:, :2], [(0, 0), (0, 1)], constant_values=0.5),  # centre x, y, size; of the sides
}
_0, _00 = np.zeros((1, 1), np.float32), np.zeros((1, 2), np.float32)


# Geometry: one matrix an example, one resampling.


def _geometry(images, xflip=_0, rotate90=_0, xint=_00, scale=_0, rotate=_00, aniso=_0, xfrac=_00):
    """Applies all geometric transforms at once, by the matrix from output to input pixels, both from the centre."""
    height, width = images.shape[1:3]
    shrink, squeeze = jnp.exp2(-scale[:, 0]), jnp.exp2(-aniso[:, 0])
    cos, sin = (jnp.round(f(0.5 * jnp.pi * rotate90[:, 0])) for f in (jnp.cos, jnp.sin))  # exactly 0 and +-1
    inverses = [
        _affine(xx=1.0 - 2.0 * xflip[:, 0]),
        _affine(xx=cos, xy=-sin, yx=sin, yy=cos),
        _affine(x=-jnp.round(xint[:, 0] * width), y=-jnp.round(xint[:, 1] * height)),
        _affine(xx=shrink, yy=shrink),
        _rotation(rotate[:, 0]),
        _affine(xx=squeeze, yy=1.0 / squeeze),
        _rotation(rotate[:, 1]),
        _affine(x=-xfrac[:, 0] * width, y=-xfrac[:, 1] * height),
    ]
    return _resample(images, functools.reduce(functools.partial(jnp.matmul, precision="highest"), inverses))


def _affine(xx=1.0, xy=0.0, yx=0.0, yy=1.0, x=0.0, y=0.0):
    """Returns the matrix [B, 3, 3] that takes (x, y, 1) to (xx x + xy y + x, yx x + yy y + y, 1)."""
    entries = jnp.broadcast_arrays(xx, xy, x, yx, yy, y, 0.0, 0.0, 1.0)
    return jnp.stack(entries, -1).reshape(-1, 3, 3)


def _rotation(angle):
    return _affine(xx=jnp.cos(angle), xy=-jnp.sin(angle), yx=jnp.sin(angle), yy=jnp.cos(angle))


# The least asymmetric wavelet of Daubechies with six vanishing moments: orthogonal to its own even shifts, so that
# enlarging by 2 with it and reducing again is the identity.
SYM6 = np.array([
    0.015404109327044824, 0.0034907120842221665, -0.11799011114852002, -0.048311742585698064,
    0.49105594192797375, 0.787641141028651, 0.3379294217281658, -0.07263752278637657,
    -0.021060292512370845, 0.044724901770781374, 0.001767711864254009, -0.007800708325032378,
])  # fmt: skip
_REACH = 6  # the filter's, in pixels of the enlarged image


@functools.lru_cache
def _resolution(size):
    """Returns a matrix that enlarges an axis, [6 size - 2, size], and one that reduces it, [size, 2 size + 12].

    The first reflects size - 1 pixels at each end, enlarges by 2, and adds a zero at each end. Pixel i of an axis is at
    2 i of the enlarged one; the second matrix begins and ends `_REACH` beyond the image.
    """

    def filters(positions, size):
        taps = positions[:, None] - 2 * np.arange(size) + 5
        return np.where((taps >= 0) & (taps < len(SYM6)), SYM6[np.clip(taps, 0, len(SYM6) - 1)], 0.0)

    reflected = np.pad(np.eye(size), [(size - 1, size - 1), (0, 0)], mode="reflect")
    enlarge = filters(np.arange(2 * len(reflected)), len(reflected)) @ reflected
    reduce = filters(np.arange(-_REACH, 2 * size + _REACH), size).T
    return math.sqrt(2.0) * np.pad(enlarge, [(1, 1), (0, 0)]), reduce / math.sqrt(2.0)


def _resample(images, inverse):
    """Returns images at the positions inverse @ (x, y, 1), read from an enlargement by 2, filtered and reduced again.

    The official code reflects as many pixels as the batch happens to need, at most size - 1. Here it is always
    size - 1: the same values are read, and shapes are static. The filters are products with constant matrices.
    """
    sides = images.shape[1:3]
    (enlarge_y, reduce_y), (enlarge_x, reduce_x) = (_resolution(n) for n in sides)
    y, x = (np.arange(-_REACH, 2 * n + _REACH) / 2 - (n - 1) / 2 for n in sides)  # pixels from the centre
    inverse = inverse[:, :, :, None, None]
    x, y = (row[:, 0] * x + row[:, 1] * y[:, None] + row[:, 2] for row in (inverse[:, 0], inverse[:, 1]))
    y, x = (2.0 * (at + 1.5 * (n - 1)) + 1.0 for at, n in zip((y, x), sides))  # indices into the enlargement
    return _along(reduce_y, reduce_x, jax.vmap(_bilinear)(_along(enlarge_y, enlarge_x, images), y, x))


def _along(rows, columns, images):
    """Multiplies each column by the matrix `rows`, each row by `columns`."""
    rows, columns = (matrix.astype(images.dtype) for matrix in (rows, columns))
    return _einsum("xw,byw...->byx...", columns, _einsum("yh,bh...->by...", rows, images))


def _bilinear(image, y, x):
    """Interpolates the image [H, W, C] at indices y, x [...]; its border is zero, as is all beyond it."""
    y, x = (jnp.clip(at, 0.0, n - 1.0) for at, n in zip((y, x), image.shape))
    top, left = (jnp.minimum(at.astype(jnp.int32), n - 2) for at, n in zip((y, x), image.shape))
    y, x = ((at - whole)[..., None].astype(image.dtype) for at, whole in ((y, top), (x, left)))
    upper = (1.0 - x) * image[top, left] + x * image[top, left + 1]
    lower = (1.0 - x) * image[top + 1, left] + x * image[top + 1, left + 1]
    return (1.0 - y) * upper + y * lower


# Colour: one matrix an example.


def _recolor(images, brightness=_0, contrast=_0, lumaflip=_0, hue=_0, saturation=_0):
    """Applies all colour transforms at once: C (colour + brightness), C the product of the others.

    They share their axes: C multiplies what is grey by the contrast, negative if flipped, and turns and scales what is
    perpendicular to it. One channel is grey; a fourth one, transparency, stays as it is.
    """
    images, transparency = images[..., :3], images[..., 3:]
    images = images + brightness[:, :, None, None].astype(images.dtype)
    angle, grey = hue[:, :, None], np.full((images.shape[3],) * 2, 1.0 / images.shape[3])
    matrix = (1.0 - 2.0 * lumaflip[:, :, None]) * grey
    if images.shape[3] == 3:
        turn = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3.0)  # grey axis x colour
        chroma = jnp.cos(angle) * (np.eye(3) - grey) + jnp.sin(angle) * turn
        matrix = matrix + jnp.exp2(saturation[:, :, None]) * chroma
    matrix = jnp.broadcast_to(jnp.exp2(contrast[:, :, None]) * matrix, (len(images), *grey.shape))
    images = _einsum("bdc,bhwc->bhwd", matrix.astype(images.dtype), images)
    return jnp.concatenate([images, transparency], axis=3) if transparency.size else images


# Corruptions.


@functools.lru_cache
def _bands(size):
    """Returns the filters of four octaves along an axis reflected at its ends, the lowest first: [4, size, size].

    With the wavelet sym2, H(z), low(z) = H(z) H(1/z) / 2 and high = 1 - low, a band is low(z) low(z^2) ... high(z^2^k).
    They have no phase, and sum to the identity.
    """
    root = math.sqrt(3.0)
    sym2 = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * math.sqrt(2.0))
    lows = [np.zeros(6 * 2**octave + 1) for octave in range(3)]
    for octave, low in enumerate(lows):
        low[:: 2**octave] = np.convolve(sym2, sym2[::-1]) / 2
    below = [np.ones(1)]  # what the filters of the octaves above leave
    for low in lows:
        below.append(np.convolve(below[-1], low))
    below = [np.pad(taps, (43 - len(taps)) // 2) for taps in below]
    taps = [below[3], *(below[i] - below[i + 1] for i in (2, 1, 0))]
    reflected = np.pad(np.eye(size), [(21, 21), (0, 0)], mode="reflect")
    return np.stack([[band @ reflected[i : i + 43] for i in range(size)] for band in taps])


_POWER = np.array([10.0, 1.0, 1.0, 1.0]) / 13.0  # of an image's bands, expected


def _filter(images, imgfilter):
    """Amplifies four octaves; each gain is first normalised to leave the expected power of an image as it is."""
    gains = jnp.exp2(imgfilter)
    power = 1.0 + _POWER * (jnp.square(gains) - 1.0)  # after one band's gain alone, [B, 4]
    gains = (gains / jnp.prod(jnp.sqrt(power), 1, keepdims=True)).astype(images.dtype)
    rows, columns = (_einsum("bk,kij->bij", gains, _bands(n).astype(images.dtype)) for n in images.shape[1:3])
    return _einsum("bxw,byw...->byx...", columns, _einsum("byh,bh...->by...", rows, images))


def _add(images, noise):
    return images + noise.astype(images.dtype)


def _erase(images, cutout, filling=None):
    """Zeroes the pixels whose centres lie within a rectangle [B, 3]: centre x, y and size, of the image's sides.

    With `filling`, standard normal [B, H, W, C], they get noise with the mean and deviation of the image's channel.
    """
    hole = 0.0
    if filling is not None:
        mean, variance = jnp.mean(images, (1, 2), keepdims=True), jnp.var(images, (1, 2), keepdims=True)
        hole = mean + jnp.sqrt(variance + 1e-8) * filling  # the root has no derivative at 0
    height, width = images.shape[1:3]
    x, y, size = jnp.moveaxis(cutout[:, :, None], 1, 0)
    columns, rows = (jnp.abs((np.arange(n) + 0.5) / n - at) < size / 2 for n, at in ((width, x), (height, y)))
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], hole, images)


_STAGES = (
    (_BLIT | _GEOM, _geometry),
    (_COLOR, _recolor),
    (_FILTER, _filter),
    (_NOISE, _add),
    (("cutout", "filling"), _erase),
)
