"""R3GAN: sizes to the digit, initial scales, linearity at first, resampling against its definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxgan.gan.penalties import squared_gradient_norm
from jaxgan.models import r3gan
from jaxgan.models.r3gan import Block
from jaxgan.ops.blur import downsample, upsample

# Of the official networks: CIFAR-10 with and without classes, FFHQ, ImageNet.
COUNTS = [
    (32, 0, {}, 20_732_160, 20_683_776),
    (32, 10, {}, 20_781_952, 21_280_512),
    (256, 0, {}, 23_057_952, 23_009_568),
    (64, 1000, dict(channels=r3gan.IMAGENET_WIDTHS[64], group_width=32), 103_570_432, 107_205_120),
]


def nets(num_classes=0, widths=(32, 16), size=8, blocks=1, **fields):
    """Small ones; the narrower stage makes a 1x1 convolution between the two."""
    common = dict(image_size=size, num_classes=num_classes, blocks=blocks, **fields)
    return r3gan.Generator(channels=widths, **common), r3gan.Discriminator(channels=widths[::-1], **common)


def initialise(g, d):
    key, label = jax.random.key(0), jnp.zeros(1, jnp.int32)
    images = jnp.zeros((1, g.image_size, g.image_size, g.image_channels))
    return g.init(key, jnp.zeros((1, 64)), label, True), d.init(key, images, label, True)


def scattered(variables, scale=0.3):
    """`variables` plus normal draws: no zeros left, so residual branches and biases take part."""
    draws = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + scale * draws.normal(size=x.shape).astype(np.float32), variables)


@functools.cache
def small():
    """With 10 classes: (G of (variables, z, labels), its variables at first), (D, its variables)."""
    nets_ = nets(10)
    variables = jax.jit(lambda: initialise(*nets_))()
    return [(jax.jit(functools.partial(net.apply, train=True)), v) for net, v in zip(nets_, variables, strict=True)]


# Four examples, so that every test runs the same program.
Z = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
IMAGES = np.random.default_rng(2).normal(size=(4, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(4)


@pytest.mark.parametrize(("size", "num_classes", "fields", "count_g", "count_d"), COUNTS)
def test_parameter_counts(size, num_classes, fields, count_g, count_d):
    common = dict(image_size=size, num_classes=num_classes, **fields)
    shapes = jax.eval_shape(lambda: initialise(r3gan.Generator(**common), r3gan.Discriminator(**common)))
    assert [sum(x.size for x in jax.tree.leaves(v)) for v in shapes] == [count_g, count_d]


def test_a_small_version_is_a_matter_of_fields():
    shapes = jax.eval_shape(lambda: initialise(*nets(10, (64,) * 4, 32)))
    assert all(sum(x.size for x in jax.tree.leaves(v)) < 500_000 for v in shapes)


@pytest.mark.parametrize("size", [min(r3gan.G_WIDTHS), max(r3gan.G_WIDTHS)])
def test_shapes(size):
    common = dict(image_size=size, image_channels=4, num_classes=10, blocks=1)
    g, d = r3gan.Generator(**common), r3gan.Discriminator(**common)

    def run():
        variables_g, variables_d = initialise(g, d)
        images = g.apply(variables_g, jnp.zeros((2, 64)), jnp.arange(2), True)
        return images, d.apply(variables_d, images, jnp.arange(2), True)

    images, logits = jax.eval_shape(run)
    assert (images.shape, images.dtype) == ((2, size, size, 4), jnp.float32)
    assert (logits.shape, logits.dtype) == ((2,), jnp.float32)


def test_initial_scales():
    """Of each layer, as multiples of 1 / sqrt(fan-in): 1 where linear, else the residual gain of two blocks; or 0."""
    (_, variables_g), (_, variables_d) = small()
    residual = np.sqrt(2 / 1.04) * 2**-0.25
    block = {"spatial/kernel": residual * 144**-0.5, "reduce/kernel": 0, "expand/bias": 0, "spatial/bias": 0}
    expected_g = {
        "dense/kernel": 128**-0.5, "basis": 1.0, "width_1/kernel": 32**-0.5, "pixels/kernel": 16**-0.5,
        "classes/embedding": 10**-0.5, "block_0_0/expand/kernel": residual * 32**-0.5,
    } | {f"block_1_0/{name}": scale for name, scale in block.items()}  # fmt: skip
    expected_d = {
        "dense/kernel": 32**-0.5, "basis": 16**-0.5, "width_1/kernel": 16**-0.5, "pixels/kernel": 3**-0.5,
        "classes/embedding": 320**-0.5, "block_0_0/expand/kernel": residual * 16**-0.5,
    } | {f"block_1_0/{name}": scale for name, scale in block.items()}  # fmt: skip
    for variables, expected in ((variables_g, expected_g), (variables_d, expected_d)):
        for path, scale in expected.items():
            value = np.asarray(functools.reduce(dict.get, path.split("/"), variables["params"]))
            # Five standard errors of the standard deviation of normal draws.
            np.testing.assert_allclose(value.std(), scale, rtol=5 / np.sqrt(2 * value.size), err_msg=path)


def test_d_is_linear_at_first_so_r1_equals_r2():
    """The gradient of a class's logit is the same at any image; later it is not."""
    apply, variables = small()[1]
    penalty = jax.jit(lambda v: squared_gradient_norm(lambda x: apply(v, x, np.ones(4, int)), IMAGES))
    at_first, later = penalty(variables), penalty(scattered(variables))
    np.testing.assert_allclose(at_first, at_first[0], rtol=1e-5)
    assert float(jnp.ptp(later) / later.mean()) > 1e-2


def test_g_is_affine_in_z_at_first_and_not_bounded():
    """a z + (1 - a) z' gives the same mixture of the images: the class adds a constant."""
    apply, variables = small()[0]
    z = np.stack([Z[0], Z[1], 3 * Z[0] - 2 * Z[1], Z[3]])
    images = apply(variables, z, np.ones(4, int))
    np.testing.assert_allclose(images[2], 3 * images[0] - 2 * images[1], atol=1e-4)
    assert np.abs(images).max() > 1  # no tanh


def by_definition(x, up):
    """The filter [1, 3, 3, 1] on x [n, n] with zeros around, between the pixels or onto every second: scipy's."""
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    if up:
        spread = np.zeros((2 * len(x), 2 * len(x)))
        spread[::2, ::2] = x
        return 4 * scipy.signal.convolve2d(spread, taps)[1:-2, 1:-2]
    return scipy.signal.convolve2d(x, taps)[2:-1:2, 2:-1:2]


@pytest.mark.parametrize(("function", "up"), [(upsample, True), (downsample, False)])
def test_resampling_against_scipy(function, up):
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    expected = np.stack([[by_definition(x[b, :, :, c], up) for c in range(3)] for b in range(2)])
    np.testing.assert_allclose(jax.jit(function)(x), expected.transpose(0, 2, 3, 1), atol=1e-6)


def test_resampling_is_a_pair_of_adjoints():
    """<up(x), y> = 4 <x, down(y)>."""
    x, y = np.random.default_rng(0).normal(size=(2, 2, 8, 8, 3)).astype(np.float32)
    x = x[:, :4, :4]
    np.testing.assert_allclose(np.vdot(jax.jit(upsample)(x), y), 4 * np.vdot(x, jax.jit(downsample)(y)), rtol=1e-4)


def test_block_by_lax():
    """The residual block written out, its grouped convolution by XLA's own."""
    block = Block(num_blocks=1, expansion=2, group_width=8, dtype=jnp.float32, precision=None)
    x = np.random.default_rng(1).normal(size=(2, 5, 5, 12)).astype(np.float32)
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(1), x))
    variables = scattered(jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes))

    def written_out(p):
        h = x @ p["expand"]["kernel"][0, 0] + p["expand"]["bias"]
        h = jnp.where(h > 0, h, 0.2 * h)
        options = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3)
        h = jax.lax.conv_general_dilated(h, p["spatial"]["kernel"], (1, 1), "SAME", **options) + p["spatial"]["bias"]
        return x + jnp.where(h > 0, h, 0.2 * h) @ p["reduce"]["kernel"][0, 0]

    expected = jax.jit(written_out)(variables["params"])
    np.testing.assert_allclose(jax.jit(block.apply)(variables, x), expected, atol=1e-4)


def test_classes_act_in_g():
    apply, variables = small()[0]
    one, two, *_ = apply(variables, Z[[0, 0, 0, 0]], LABELS)
    assert np.abs(one - two).max() > 1e-2


def test_logit_is_linear_in_the_class_vector_and_of_its_example_only():
    apply, variables = small()[1]
    params = scattered(variables)["params"]
    table = params["classes"]["embedding"]
    params |= {"classes": {"embedding": table.at[2].set(table[0] + table[1])}}
    images = IMAGES[[0, 0, 0, 1]]
    logits = apply({"params": params}, images, LABELS)
    np.testing.assert_allclose(logits[2], logits[0] + logits[1], rtol=1e-4)
    images[3] *= 5
    swapped = apply({"params": params}, images, LABELS)
    np.testing.assert_allclose(swapped[:3], logits[:3], rtol=1e-5)
    assert abs(float(swapped[3] / logits[3]) - 1) > 1e-2
    assert r3gan.Discriminator.mixes_examples is False


def test_low_precision_in_the_four_largest_stages_but_never_at_4x4():
    """As published: 32 and 64 pixels have 4x4 in float32, 256 pixels also 8x8 and 16x16."""
    for num_stages, full in ((4, [0]), (5, [0]), (7, [0, 1, 2])):
        policies = [r3gan.stage_policy(i, num_stages, jnp.bfloat16)["dtype"] for i in range(num_stages)]
        assert [i for i, dtype in enumerate(policies) if dtype == jnp.float32] == full


def test_bfloat16_keeps_float32_outputs_and_gradients():
    """Images and logits near those in float32; the gradient of a penalty of D, which is of second order, is finite."""
    (apply_g, variables_g), (apply_d, variables_d) = small()
    variables_g, variables_d = scattered(variables_g, 0.1), scattered(variables_d, 0.1)
    g, d = nets(10, dtype=jnp.bfloat16)

    def penalty(variables_d):
        return jnp.mean(squared_gradient_norm(lambda x: d.apply(variables_d, x, LABELS, True), IMAGES))

    @jax.jit
    def run():
        images, logits = g.apply(variables_g, Z, LABELS, True), d.apply(variables_d, IMAGES, LABELS, True)
        return images, logits, jax.grad(penalty)(variables_d)

    images, logits, grads = run()
    assert {x.dtype for x in jax.tree.leaves((images, logits, grads))} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
    assert np.any(grads["params"]["block_0_0"]["spatial"]["kernel"])
    expected = apply_g(variables_g, Z, LABELS), apply_d(variables_d, IMAGES, LABELS)
    for low, full in zip((images, logits), expected, strict=True):
        assert 0 < np.linalg.norm(low - full) < 0.05 * np.linalg.norm(full)


@pytest.mark.parametrize("module", [r3gan.Generator, r3gan.Discriminator])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(image_size=48), "image_size=48: choose one of 8, 16, 32"),
        (dict(image_size=16, channels=(16, 16)), "16 pixels take 3 widths"),
        (dict(image_size=8, channels=(12, 12)), "group_width=16 does not divide the 24 channels"),
    ],
)
def test_what_cannot_work_is_said(module, fields, message):
    net = module(**fields)
    shape = (1, 64) if module is r3gan.Generator else (1, net.image_size, net.image_size, 3)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros(shape), None, True))
