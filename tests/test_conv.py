"""conv, conv_transpose and their derivatives of first and second order are XLA's, however they are computed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgan.ops import conv as ops

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def assert_close(actual, wanted, tolerance=1e-5):
    """Relative to the largest entry, leaf by leaf."""
    for a, w in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        assert a.shape == w.shape
        assert a.dtype == w.dtype
        a, w = np.asarray(a, np.float64), np.asarray(w, np.float64)
        assert np.abs(a - w).max() <= tolerance * max(np.abs(w).max(), 1e-30)


def lax_conv(x, kernel, stride=1, padding="SAME", groups=1):
    stride = (stride, stride) if isinstance(stride, int) else stride
    padding = [(padding, padding)] * 2 if isinstance(padding, int) else padding
    return lax.conv_general_dilated(
        x, kernel, stride, padding, dimension_numbers=DIMENSIONS, feature_group_count=groups
    )


def fast(x, kernel, stride=1, padding="SAME", groups=1):
    return ops.conv(x, kernel, stride=stride, padding=padding, groups=groups, impl="fast")


def derivatives(function, x, kernel):
    """Value, gradients of a curved loss, and the gradients of an R1 penalty on it."""

    def loss(x, kernel):
        return jnp.sum(jnp.sin(function(x, kernel).astype(jnp.float32)))

    def penalty(x, kernel):
        return jnp.sum(jnp.square(jax.grad(loss)(x, kernel).astype(jnp.float32)))

    both = jax.grad(loss, (0, 1))(x, kernel), jax.grad(penalty, (0, 1))(x, kernel)
    return function(x, kernel), *both


def assert_same_derivatives(x, kernel, tolerance=1e-5, **options):
    actual = jax.jit(lambda x, k: derivatives(lambda x, k: fast(x, k, **options), x, k))(x, kernel)
    wanted = jax.jit(lambda x, k: derivatives(lambda x, k: lax_conv(x, k, **options), x, k))(x, kernel)
    assert_close(actual, wanted, tolerance)


ASYMMETRIC = ((2, 0), (1, 3))


@pytest.mark.parametrize(
    ("taps", "stride", "padding"),
    [
        *itertools.product([(1, 1), (3, 3), (4, 4), (5, 5)], [1, 2, 3], ["SAME"]),
        *itertools.product([(3, 3), (4, 4)], [1, 2], ["VALID", 1]),
        *itertools.product([(3, 2), (1, 4)], [1, 2, (3, 1)], [ASYMMETRIC]),
        ((2, 2), 3, "VALID"),  # rows of x that no output sees
        ((3, 3), 1, ((-1, 2), (0, -1))),  # cropped
    ],
)
def test_matches_lax(taps, stride, padding):
    x, kernel = normal(0, 2, 7, 8, 4), normal(1, *taps, 4, 5)
    assert_same_derivatives(x, kernel, stride=stride, padding=padding)


@pytest.mark.parametrize(("groups", "features"), [(2, 4), (6, 6), (6, 12)])  # the second and third depthwise
@pytest.mark.parametrize("stride", [1, 2])
def test_groups(groups, features, stride):
    x, kernel = normal(0, 2, 6, 5, 6), normal(1, 3, 3, 6 // groups, features)
    assert_same_derivatives(x, kernel, stride=stride, groups=groups)


@pytest.mark.parametrize(("channels", "features"), [(3, 160), (160, 3), (20, 160)])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_formulation(channels, features, stride):
    """Few and many channels on either side take different ways; a batch of 6 is computed in parts."""
    x, kernel = normal(0, 6, 8, 8, channels), normal(1, 4, 4, channels, features) / (4 * channels**0.5)
    assert_same_derivatives(x, kernel, stride=stride)


@pytest.mark.parametrize(("channels", "features"), [(32, 160), (160, 32), (32, 32)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((-1, 2), (3, 0))])
def test_by_tiles(channels, features, padding, monkeypatch):
    monkeypatch.setattr(ops, "_TILED_BYTES", 1 << 20)  # in parts
    x, kernel = normal(0, 4, 15, 16, channels), normal(1, 3, 3, channels, features) / (3 * channels**0.5)
    assert "convolution" not in jax.jit(lambda x, k: fast(x, k, padding=padding)).lower(x, kernel).as_text()
    assert_same_derivatives(x, kernel, padding=padding)


@pytest.mark.parametrize(("channels", "features"), [(8, 32), (40, 32)])
@pytest.mark.parametrize("padding", [1, "VALID", ((-1, 2), (3, 0))])
def test_by_tiles_with_stride(channels, features, padding, monkeypatch):
    monkeypatch.setattr(ops, "_TILED_BYTES", 1 << 19)  # in parts
    x, kernel = normal(0, 6, 22, 27, channels), normal(1, 4, 4, channels, features) / (4 * channels**0.5)
    assert "convolution" not in jax.jit(lambda x, k: fast(x, k, stride=2, padding=padding)).lower(x, kernel).as_text()
    assert_same_derivatives(x, kernel, stride=2, padding=padding)


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (4, 2)])
def test_by_tiles_in_bfloat16(taps, stride):
    """Within a few of bfloat16's roundings of 2 ** -8."""
    x, kernel = normal(0, 4, 16, 16, 64), normal(1, taps, taps, 64, 64) / (8 * taps)
    x, kernel = (a.astype(jnp.bfloat16) for a in (x, kernel))
    assert_same_derivatives(x, kernel, 0.03, stride=stride, padding=1)


def test_a_batch_in_parts(monkeypatch):
    monkeypatch.setattr(ops, "_CHUNK_BYTES", 1 << 10)
    x, kernel = normal(0, 6, 8, 8, 3), normal(1, 4, 4, 3, 130)
    assert_same_derivatives(x, kernel, stride=2)


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16(stride):
    x, kernel = normal(0, 2, 6, 6, 4, dtype=jnp.bfloat16), normal(1, 3, 3, 4, 130, dtype=jnp.bfloat16)
    assert_same_derivatives(x, kernel, 0.03, stride=stride)


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_is_accumulated_in_float32(stride):
    x, kernel = normal(0, 2, 8, 8, 64), normal(1, 3, 3, 64, 130)
    exact = lax_conv(*(a.astype(jnp.bfloat16).astype(jnp.float32) for a in (x, kernel)), stride=stride)
    ours = fast(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), stride=stride)
    assert ours.dtype == jnp.bfloat16
    assert_close(ours.astype(jnp.float32), exact, 2**-8)


@pytest.mark.parametrize(
    ("stride", "padding", "size"), [(2, "SAME", (10, 8)), (2, "VALID", (12, 10)), (3, "SAME", (15, 12))]
)
def test_transposed_is_that_of_lax(stride, padding, size):
    x, kernel = normal(0, 2, 5, 4, 6), normal(1, 4, 4, 6, 3)
    ours = ops.conv_transpose(x, kernel, stride=stride, padding=padding, impl="fast")
    flipped = kernel[::-1, ::-1]
    wanted = lax.conv_transpose(x, flipped, (stride,) * 2, padding, dimension_numbers=DIMENSIONS)
    assert ours.shape[1:3] == size
    assert_close(ours, wanted)


@pytest.mark.parametrize("impl", ["fast", "xla"])
def test_a_grouped_transposed_convolution_is_one_for_each_group(impl):
    x, kernel = normal(0, 2, 5, 4, 6), normal(1, 4, 4, 6, 5)  # two groups of 3 channels, to 5 channels each
    grouped = ops.conv_transpose(x, kernel, stride=2, padding=1, groups=2, impl=impl)
    halves = zip(jnp.split(x, 2, axis=3), jnp.split(kernel, 2, axis=2))
    each = [ops.conv_transpose(x, kernel, stride=2, padding=1, impl=impl) for x, kernel in halves]
    np.testing.assert_allclose(grouped, jnp.concatenate(each, axis=3), rtol=1e-5, atol=1e-5)


def test_transposed_is_the_adjoint():
    """<conv(y), x> = <y, conv_transpose(x)>, PyTorch's kernel 4, stride 2, padding 1 doubling the size."""
    x, y, kernel = normal(0, 2, 4, 4, 5), normal(1, 2, 8, 8, 3), normal(2, 4, 4, 5, 3)
    up = ops.conv_transpose(x, kernel, stride=2, padding=1)
    down = ops.conv(y, kernel.swapaxes(2, 3), stride=2, padding=1)
    assert up.shape == y.shape
    np.testing.assert_allclose(jnp.sum(up * y), jnp.sum(x * down), rtol=1e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (2, 1)])
def test_vmap(axes):
    arrays = [normal(0, 2, 6, 6, 4), normal(1, 3, 3, 4, 5)]
    batched = [a if axis is None else jnp.stack([a, -2 * a, a**2], axis) for a, axis in zip(arrays, axes, strict=True)]

    def gradients(x, kernel):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(fast(x, k, stride=2))), (0, 1))(x, kernel)

    actual = jax.vmap(gradients, axes)(*batched)
    for i in range(3):
        one = [a if axis is None else jnp.take(a, i, axis) for a, axis in zip(batched, axes, strict=True)]
        assert_close(jax.tree.map(lambda g, i=i: g[i], actual), gradients(*one))


def test_forward_mode():
    x, kernel = normal(0, 2, 6, 6, 4), normal(1, 3, 3, 4, 5)
    tangents = normal(2, *x.shape), normal(3, *kernel.shape)
    actual = jax.jvp(lambda x, k: fast(x, k, stride=2), (x, kernel), tangents)
    assert_close(actual, jax.jvp(lambda x, k: lax_conv(x, k, stride=2), (x, kernel), tangents))


def test_inside_scan_cond_and_across_devices():
    x, kernel = normal(0, 4, 6, 6, 4), normal(1, 3, 3, 4, 4)

    def gradient(kernel, x):
        return jax.grad(lambda k: jnp.mean(jnp.square(fast(x, k))))(kernel)

    def step(kernel, x):
        return lax.cond(jnp.sum(kernel) < 1e9, lambda k: k - 0.1 * gradient(k, x), lambda k: k, kernel), None

    wanted = step(step(kernel, x[:2])[0], x[2:])[0]
    assert_close(lax.scan(step, kernel, x.reshape(2, 2, 6, 6, 4))[0], wanted)

    mean = jax.pmap(
        lambda k, x: lax.pmean(gradient(k, x), "i"), "i", in_axes=(None, 0), out_axes=None, devices=jax.devices()[:2]
    )
    assert_close(mean(kernel, x.reshape(2, 2, 6, 6, 4)), gradient(kernel, x))
    mesh = Mesh(np.array(jax.devices()[:2]), ("i",))

    def total(convolution):  # with the default check of what varies between devices, which sums the gradients
        def square(k, x):
            return lax.psum(jnp.sum(jnp.square(convolution(x, k))), "i")

        return jax.jit(jax.grad(jax.shard_map(square, mesh=mesh, in_specs=(P(), P("i")), out_specs=P()), (0, 1)))

    assert_close(total(fast)(kernel, x), total(lax_conv)(kernel, x))


def test_same_bits_twice():
    x, kernel = normal(0, 8, 16, 16, 8), normal(1, 4, 4, 8, 16)
    f = jax.jit(jax.grad(lambda k: jnp.sum(jnp.sin(fast(x, k, stride=2)))))
    np.testing.assert_array_equal(f(kernel), f(kernel))


def test_platform_decides_when_the_program_is_lowered():
    """A program for a TPU, written on a machine that only has a CPU, has XLA's convolutions in it."""
    x, kernel = normal(0, 2, 8, 8, 256), normal(1, 3, 3, 256, 3)
    f = jax.jit(lambda x, k: ops.conv(x, k))
    assert "stablehlo.convolution" not in f.trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in f.trace(x, kernel).lower(lowering_platforms=("tpu",)).as_text()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(stride=0), "stride=0"),
        (dict(padding="FULL"), "padding='FULL'"),
        (dict(groups=2), "groups=2"),
        (dict(impl="slow"), "impl='slow'"),
    ],
)
def test_bad_arguments(options, expected):
    with pytest.raises(ValueError, match=expected) as error:
        ops.conv(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 4)), **options)
    assert "\n" not in str(error.value)
