"""conv, conv_transpose and their derivatives are XLA's, however they are computed and wherever they are used."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgan.ops.conv import conv, conv_transpose, cpu, gpu

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
ASYMMETRIC = ((2, 0), (1, 3))


def normal(seed, *shape, dtype=jnp.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def assert_close(actual, expected, tolerance=1e-5):
    """Asserts that trees are equal, relative to the largest entry of each leaf."""
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert np.abs(a - e).max() <= tolerance * max(np.abs(e).max(), 1e-30)


def lax_conv(x, kernel, stride=1, padding="SAME", groups=1):
    stride = (stride, stride) if isinstance(stride, int) else stride
    padding = [(padding, padding)] * 2 if isinstance(padding, int) else padding
    return lax.conv_general_dilated(
        x, kernel, stride, padding, dimension_numbers=DIMENSIONS, feature_group_count=groups
    )


def fast_conv(x, kernel, **options):
    return conv(x, kernel, impl="fast", **options)


def value_and_gradients(x, kernel, *functions, **options):
    """Returns for each function y and its gradients by x and the kernel, for a random gradient by y."""

    def compute(x, kernel, function):
        y, pull = jax.vjp(lambda x, kernel: function(x, kernel, **options), x, kernel)
        return y, *pull(normal(9, *y.shape, dtype=y.dtype))

    return jax.jit(lambda *arrays: [compute(*arrays, function) for function in functions])(x, kernel)


def assert_same(x, kernel, tolerance=1e-5, **options):
    assert_close(*value_and_gradients(x, kernel, fast_conv, lax_conv, **options), tolerance)


@pytest.mark.parametrize(
    ("taps", "stride", "padding"),
    [
        *itertools.product([(1, 1), (3, 3), (4, 4)], [1, 2], ["SAME"]),
        ((4, 4), 3, "SAME"),
        *itertools.product([(3, 3), (4, 4)], [2], ["VALID", 1]),
        *itertools.product([(3, 2), (1, 4)], [1, (3, 1)], [ASYMMETRIC]),
        ((2, 2), 3, "VALID"),  # rows of x that no output sees
        ((3, 3), 1, ((-1, 2), (0, -1))),  # cropped
    ],
)
def test_matches_lax(taps, stride, padding):
    assert_same(normal(0, 2, 7, 8, 4), normal(1, *taps, 4, 5), stride=stride, padding=padding)


@pytest.mark.parametrize(
    ("kernel", "groups", "stride", "padding"),
    [
        ((1, 1, 6, 4), 1, (1, 1), ((0, 0), (0, 0))),
        ((3, 3, 2, 6), 3, (1, 1), ((1, 1), (1, 1))),
        ((3, 2, 2, 9), 3, (2, 1), ASYMMETRIC),
        ((4, 4, 1, 12), 6, (1, 1), ((0, 0), (0, 0))),
    ],
)
def test_what_a_gpu_does_otherwise_is_the_same(kernel, groups, stride, padding):
    """Only the arithmetic can be tested on a CPU: batched products are made of float32 that is not rounded."""
    options = dict(stride=stride, padding=padding, groups=groups)
    x, kernel = normal(0, 2, 5, 6, 6), normal(1, *kernel)
    on_gpu = functools.partial(gpu.conv, precision=lax.Precision.HIGHEST)
    assert_close(*value_and_gradients(x, kernel, on_gpu, lax_conv, **options))
    text = jax.jit(functools.partial(gpu.conv, precision="highest", **options)).lower(x, kernel).as_text()
    assert "stablehlo.convolution" not in text


@pytest.mark.parametrize(("groups", "features", "stride"), [(2, 4, 1), (2, 4, 2), (6, 6, 1), (6, 6, 2), (6, 12, 2)])
def test_groups(groups, features, stride):
    """With as many groups as channels a convolution is depthwise, here to one feature of each or to two."""
    assert_same(normal(0, 2, 6, 5, 6), normal(1, 3, 3, 6 // groups, features), stride=stride, groups=groups)


@pytest.mark.parametrize(
    ("dtype", "taps", "stride", "channels", "features"),
    [
        *itertools.product([jnp.float32, jnp.bfloat16], [3], [1], [32], [40]),
        *itertools.product([jnp.float32, jnp.bfloat16], [4], [2], [32], [40]),
        *itertools.product([jnp.float32, jnp.bfloat16], [3], [1], [160], [3]),
        (jnp.float32, 4, 2, 160, 3),
        (jnp.bfloat16, 4, 2, 3, 160),
    ],
)
def test_few_and_many_channels(dtype, taps, stride, channels, features):
    """The formulation depends on which side has few channels; bfloat16 differs by some roundings of 2 ** -8."""
    x = normal(0, 8, 8 * stride, 8 * stride, channels, dtype=dtype)
    kernel = normal(1, taps, taps, channels, features, dtype=dtype) / (taps * channels**0.5)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.02
    assert_same(x, kernel.astype(dtype), tolerance, stride=stride, padding=1)


@pytest.mark.parametrize("max_bytes", [1, 20_000], ids=["one by one", "in parts"])
@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (4, 2)])
def test_formulations(taps, stride, max_bytes):
    """Each formulation alone, on odd sizes, however many examples it takes at a time."""
    x, kernel = normal(0, 6, 11, 8, 3), normal(1, taps, taps, 3, 5)
    padding = ((-1, 2), (3, 0))  # cropped above
    ((y, dx, dkernel),) = value_and_gradients(x, kernel, lax_conv, stride=stride, padding=padding)
    dy, size, strides = normal(9, *y.shape), y.shape[1:3], (stride, stride)

    @jax.jit
    def compute(x, kernel, dy):
        forward = [
            cpu.conv_winograd(x, kernel, size, padding, max_bytes),
            cpu.conv_im2col(x, kernel, size, strides, padding, max_bytes),
            *([cpu.conv_kn2row(x, kernel, size, padding)] if stride == 1 else []),
        ]
        by_input = [cpu.conv_input_winograd(dy, kernel, x.shape[1:3], padding, max_bytes)] if stride == 2 else []
        by_kernel = [
            cpu.conv_kernel_winograd(x, dy, (taps, taps), padding, max_bytes),
            cpu.conv_kernel_im2col(x, dy, (taps, taps), strides, padding, max_bytes),
        ]
        return forward, by_input, by_kernel

    for formulations, expected in zip(compute(x, kernel, dy), (y, dx, dkernel), strict=True):
        for actual in formulations:
            assert_close(actual, expected)


@pytest.mark.parametrize(
    ("impl", "kernel", "options"),
    [
        ("fast", (3, 3, 4, 5), dict()),
        ("fast", (4, 4, 4, 5), dict(stride=2, padding=1)),
        ("fast", (3, 2, 4, 5), dict(stride=(3, 1), padding=ASYMMETRIC)),
        ("fast", (3, 3, 2, 6), dict(stride=2, groups=2)),
        ("fast", (3, 3, 1, 4), dict(groups=4)),
        ("xla", (3, 2, 4, 5), dict(stride=(3, 1), padding=ASYMMETRIC)),
        ("xla", (3, 3, 2, 6), dict(stride=2, groups=2)),
    ],
)
def test_second_derivatives(impl, kernel, options):
    """The gradients of an R1 penalty on a curved loss, forward over reverse and reverse over reverse."""
    x, kernel = normal(0, 2, 7, 8, 4), normal(1, *kernel)

    def derivatives(function, x, kernel):
        def gradients(x, kernel):
            return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel, **options))), (0, 1))(x, kernel)

        def penalty(x, kernel):
            return sum(jnp.sum(jnp.square(g)) for g in gradients(x, kernel))

        along = jax.jvp(gradients, (x, kernel), (normal(2, *x.shape), normal(3, *kernel.shape)))
        return along, jax.grad(penalty, (0, 1))(x, kernel)

    ours = functools.partial(conv, impl=impl)
    # Of arguments: jaxlib 0.7.2 folds constants in second derivatives of lax's convolution to wrong numbers.
    assert_close(*jax.jit(lambda *given: [derivatives(function, *given) for function in (ours, lax_conv)])(x, kernel))


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_is_accumulated_in_float32(stride):
    x, kernel = (normal(i, *shape, dtype=jnp.bfloat16) for i, shape in enumerate([(2, 8, 8, 64), (3, 3, 64, 130)]))
    ours = jax.jit(functools.partial(fast_conv, stride=stride))(x, kernel)
    assert ours.dtype == jnp.bfloat16
    exact = jax.jit(functools.partial(lax_conv, stride=stride))(x.astype(np.float32), kernel.astype(np.float32))
    assert_close(np.float32(ours), exact, 2**-8)


@pytest.mark.parametrize(
    ("stride", "padding", "size"), [(2, "SAME", (10, 8)), (2, "VALID", (12, 10)), (3, "SAME", (15, 12))]
)
def test_transposed_is_that_of_lax(stride, padding, size):
    x, kernel = normal(0, 2, 5, 4, 6), normal(1, 4, 4, 6, 3)
    flipped = kernel[::-1, ::-1]

    @jax.jit
    def both():
        ours = conv_transpose(x, kernel, stride=stride, padding=padding, impl="fast")
        return ours, lax.conv_transpose(x, flipped, (stride,) * 2, padding, dimension_numbers=DIMENSIONS)

    ours, expected = both()
    assert ours.shape[1:3] == size
    assert_close(ours, expected)


@pytest.mark.parametrize("impl", ["fast", "xla"])
def test_a_grouped_transposed_convolution_is_one_for_each_group(impl):
    x, kernel = normal(0, 2, 5, 4, 6), normal(1, 4, 4, 6, 5)  # two groups of 3 channels, to 5 channels each
    transpose = functools.partial(conv_transpose, stride=2, padding=1, impl=impl)
    halves = zip(np.split(x, 2, axis=3), np.split(kernel, 2, axis=2))
    grouped, *each = jax.jit(lambda: [transpose(x, kernel, groups=2), *(transpose(*half) for half in halves)])()
    np.testing.assert_allclose(grouped, np.concatenate(each, axis=3), rtol=1e-5, atol=1e-5)


def test_transposed_is_the_adjoint():
    """<conv(y), x> = <y, conv_transpose(x)>, PyTorch's kernel 4, stride 2, padding 1 doubling the size."""
    x, y, kernel = normal(0, 2, 4, 4, 5), normal(1, 2, 8, 8, 3), normal(2, 4, 4, 5, 3)
    options = dict(stride=2, padding=1)
    up, down = jax.jit(lambda: (conv_transpose(x, kernel, **options), conv(y, kernel.swapaxes(2, 3), **options)))()
    assert up.shape == y.shape
    np.testing.assert_allclose(np.vdot(up, y), np.vdot(x, down), rtol=1e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (2, 1)])
def test_vmap(axes):
    arrays = [normal(0, 2, 6, 6, 4), normal(1, 3, 3, 4, 5)]
    batched = [a if axis is None else np.stack([a, -2 * a, a**2], axis) for a, axis in zip(arrays, axes, strict=True)]

    def gradients(x, kernel):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(fast_conv(x, k, stride=2))), (0, 1))(x, kernel)

    one_by_one = jax.jit(gradients)
    actual = jax.jit(jax.vmap(gradients, axes))(*batched)
    for i in range(3):
        one = [a if axis is None else np.take(a, i, axis) for a, axis in zip(batched, axes, strict=True)]
        assert_close(jax.tree.map(lambda g, i=i: g[i], actual), one_by_one(*one))


def test_inside_scan_and_cond():
    x, kernel = normal(0, 4, 6, 6, 4), normal(1, 3, 3, 4, 4)

    def step(kernel, x):
        gradient = jax.grad(lambda k: jnp.mean(jnp.square(fast_conv(x, k))))
        return lax.cond(jnp.sum(kernel) < 1e9, lambda k: k - 0.1 * gradient(k), lambda k: k, kernel), None

    scanned = jax.jit(lambda: lax.scan(step, kernel, x.reshape(2, 2, 6, 6, 4))[0])()
    assert_close(scanned, jax.jit(lambda: step(step(kernel, x[:2])[0], x[2:])[0])())


def test_across_devices():
    x, kernel = normal(0, 4, 6, 6, 4), normal(1, 3, 3, 4, 4)
    mesh = Mesh(np.array(jax.devices()[:2]), ("i",))

    def gradient(kernel, x):
        return jax.grad(lambda k: jnp.mean(jnp.square(fast_conv(x, k))))(kernel)

    mean = jax.pmap(
        lambda k, x: lax.pmean(gradient(k, x), "i"), "i", in_axes=(None, 0), out_axes=None, devices=jax.devices()[:2]
    )
    assert_close(mean(kernel, x.reshape(2, 2, 6, 6, 4)), jax.jit(gradient)(kernel, x))

    def total(convolution):  # with the default check of what varies between devices, which sums the gradients
        def square(k, x):
            return lax.psum(jnp.sum(jnp.square(convolution(x, k))), "i")

        return jax.jit(jax.grad(jax.shard_map(square, mesh=mesh, in_specs=(P(), P("i")), out_specs=P()), (0, 1)))

    assert_close(total(fast_conv)(kernel, x), total(lax_conv)(kernel, x))


def test_same_bits_twice():
    x, kernel = normal(0, 8, 16, 16, 8), normal(1, 4, 4, 8, 16)
    f = jax.jit(jax.grad(lambda k: jnp.sum(jnp.sin(fast_conv(x, k, stride=2)))))
    np.testing.assert_array_equal(f(kernel), f(kernel))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_an_accelerator_gets_the_program_of_lax(platform):
    """The gradients' programs, written on a machine that only has a CPU, are those of lax's own convolution."""
    x, kernel = normal(0, 8, 16, 16, 64), normal(1, 4, 4, 64, 32)

    def program(function, platform):
        gradient = jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k, stride=2, padding=1))), (0, 1))
        return jax.jit(gradient).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()

    def convolutions(function):
        lines = program(function, platform).splitlines()
        return sorted(line.split("dim_numbers")[1] for line in lines if "stablehlo.convolution" in line)

    assert len(convolutions(conv)) == 3
    assert convolutions(conv) == convolutions(lax_conv)
    assert "stablehlo.convolution" not in program(conv, "cpu")


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
        conv(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 4)), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_programs_for_other_platforms_are_theirs(platform):
    """A 1x1 convolution is a product on a GPU alone; no platform but a CPU has the CPU's formulation."""
    x, kernel = normal(0, 2, 8, 8, 4), normal(1, 1, 1, 4, 5)
    text = jax.jit(conv).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform == "tpu")
    assert ("stablehlo.dot_general" in text) == (platform == "cuda")
