"""Resampling against scipy's, its adjoints, and both fused convolutions against doing one thing after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxgan.ops.blur import BINOMIAL, conv_down, conv_up, downsample, upfirdn, upsample
from jaxgan.ops.fir import fir

SIX = (0.5, -1.0, 2.0, 0.25, 0.0, 3.0)  # no symmetry, so that a flip shows


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("taps", [BINOMIAL, SIX, (1.0,)])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_upfirdn_is_scipys(taps, up, down):
    """Full padding gives scipy's result, whose stuffed signal lacks the zeros after the last pixel."""
    x = normal(0, 2, 5, 7, 3)
    expected = x.astype(np.float64)
    for axis in (1, 2):
        expected = scipy.signal.upfirdn(taps, expected, up, down, axis=axis)
    out = jax.jit(lambda x: upfirdn(x, taps, up=up, down=down, padding=(len(taps) - 1, len(taps) - up)))(x)
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2), (2, 4)])
@pytest.mark.parametrize(("before", "size"), [(0, 3), (4, 9), (-2, 2)])
def test_both_ways_to_filter_and_their_gradients_are_one(axis, up, down, before, size):
    x = normal(0, 2, 5, 6, 3)

    @jax.jit
    def both(x):
        results = []
        for impl in ("shifts", "convolution"):
            options = dict(up=up, down=down, before=before, size=size, impl=impl)
            out, pull = jax.vjp(lambda x, options=options: fir(x, SIX, axis, **options), x)
            results.append((out, *pull(normal(1, *out.shape))))
        return results

    results = both(x)
    for shifts, convolution in zip(*results, strict=True):
        np.testing.assert_allclose(shifts, convolution, atol=1e-5)
    out, gradient = results[0]
    np.testing.assert_allclose(np.vdot(out, normal(1, *out.shape)), np.vdot(x, gradient), rtol=1e-4)  # an adjoint


@pytest.mark.parametrize("padding", [(3, 1), (-1, 2), (0, -2)])
def test_padding_adds_zeros_and_crops_if_negative(padding):
    x = normal(0, 1, 6, 6, 2)
    before, after = padding
    cut = slice(max(-before, 0), 6 - max(-after, 0))
    pads = ((0, 0), *[(max(before, 0), max(after, 0))] * 2, (0, 0))
    padded = np.pad(x[:, cut, cut], pads)
    ours, expected = jax.jit(lambda: (upfirdn(x, SIX[:3], padding=padding), upfirdn(padded, SIX[:3])))()
    np.testing.assert_allclose(ours, expected)


def resampled(x):
    """Returns x upsampled and downsampled."""
    return jax.device_get(jax.jit(lambda x: (upsample(x), downsample(x)))(x))


def test_doubling_and_halving():
    """Constants stay; an up- and downsampled pixel spreads over its neighbours with the squares' weights."""
    up, down = resampled(np.ones((1, 8, 6, 2), np.float32))
    assert up.shape == (1, 16, 12, 2)
    np.testing.assert_allclose(up[:, 1:-1, 1:-1], 1.0, rtol=1e-6)
    np.testing.assert_allclose(down[:, 1:-1, 1:-1], 1.0, rtol=1e-6)
    # Half as [1, 3, 3, 1] / 8 at even offsets: pixel 2i and its right neighbour weigh the same.
    row = np.zeros((1, 8, 8, 1), np.float32)
    row[:, :, 4] = 1.0
    up, down = resampled(row)
    np.testing.assert_allclose(down[0, 2, :, 0], [0, 1 / 8, 3 / 8, 0], atol=1e-7)
    np.testing.assert_allclose(up[0, 8, 7:12, 0], [1 / 4, 3 / 4, 3 / 4, 1 / 4, 0], atol=1e-7)
    # Mirroring commutes with both: neither shifts the image.
    x = normal(0, 2, 4, 6, 2)
    for plain, mirrored in zip(resampled(x), resampled(x[:, ::-1, ::-1]), strict=True):
        np.testing.assert_allclose(plain[:, ::-1, ::-1], mirrored, atol=1e-6)


def full_convolution(x, kernel):
    """True convolution of one image [H, W, C] with [k, k, C, O], nothing cropped, by scipy."""
    channels, features = kernel.shape[2:]
    return np.stack(
        [
            sum(scipy.signal.convolve2d(x[:, :, c], kernel[:, :, c, o]) for c in range(channels))
            for o in range(features)
        ],
        axis=-1,
    )


def depthwise(taps, channels):
    return np.multiply.outer(np.outer(taps, taps), np.eye(channels))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_conv_up_is_a_convolution_of_the_enlarged_image(size):
    x, kernel = normal(0, 1, 5, 6, 2), normal(1, size, size, 2, 3)
    stuffed = np.zeros((10, 12, 2))
    stuffed[::2, ::2] = x[0]
    blurred = full_convolution(stuffed, depthwise(2 * np.array(BINOMIAL), 2))
    # No flip: a transposed convolution is a true one. Two pixels of the filter's four, and half the kernel, are before.
    begin = 1 + size // 2
    expected = full_convolution(blurred, kernel)[begin:, begin:][:10, :12]
    np.testing.assert_allclose(jax.jit(conv_up)(x, kernel)[0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_conv_down_is_every_second_pixel_of_a_convolution(size):
    x, kernel = normal(0, 1, 8, 6, 2), normal(1, size, size, 2, 3)
    blurred = full_convolution(x[0], depthwise(BINOMIAL, 2))
    begin = 2 + size // 2
    expected = full_convolution(blurred, kernel[::-1, ::-1])[begin:, begin:][:8:2, :6:2]
    np.testing.assert_allclose(jax.jit(conv_down)(x, kernel)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "resample",
    [
        upsample,
        downsample,
        lambda x: upfirdn(x, SIX, padding=(4, -1)),
        lambda x: conv_up(x, normal(2, 3, 3, 2, 1)),
        lambda x: conv_down(x, normal(2, 3, 3, 2, 1)),
    ],
    ids=["upsample", "downsample", "upfirdn", "conv_up", "conv_down"],
)
def test_first_and_second_derivatives_of_a_linear_map(resample):
    """For y = A x: the gradient of sum y^3 is A^T 3 y^2, and its derivative along v is A^T (6 y A v)."""
    shape = (4, 4, 2)
    pixels = np.eye(32, dtype=np.float32).reshape(32, *shape)
    x, v = normal(0, 1, *shape), normal(1, 1, *shape)
    gradient = jax.grad(lambda x: jnp.sum(resample(x) ** 3))
    columns, (grad, second) = jax.device_get(
        jax.jit(lambda x, v: (resample(pixels), jax.jvp(gradient, (x,), (v,))))(x, v)
    )
    matrix = columns.reshape(32, -1).T  # a column for each pixel
    y, along = matrix @ x.ravel(), matrix @ v.ravel()
    np.testing.assert_allclose(grad.ravel(), matrix.T @ (3 * y**2), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second.ravel(), matrix.T @ (6 * y * along), rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_and_is_close():
    x = normal(0, 2, 8, 8, 3)
    for half, full in zip(resampled(x.astype(jnp.bfloat16)), resampled(x), strict=True):
        assert half.dtype == jnp.bfloat16
        np.testing.assert_allclose(half.astype(np.float32), full, atol=0.05)


@pytest.mark.parametrize(
    ("changes", "message"), [(dict(up=0), "up=0"), (dict(down=0), "down=0"), (dict(padding=(-2, -1)), "pixels for 4")]
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        upfirdn(jnp.ones((1, 6, 6, 1)), BINOMIAL, **changes)
