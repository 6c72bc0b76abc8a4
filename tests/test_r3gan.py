"""R3GAN: initial scales, linearity at first, the residual block against its definition, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import r3gan
from jaxgan.models.r3gan import Block


def nets(num_classes=0, widths=(32, 16), size=8, blocks=1, **fields):
    """Small ones; the narrower stage makes a 1x1 convolution between the two."""
    common = dict(image_size=size, num_classes=num_classes, blocks=blocks, **fields)
    return r3gan.Generator(channels=widths, **common), r3gan.Discriminator(channels=widths[::-1], **common)


def initialise(g, d):
    key, label = jax.random.key(0), jnp.zeros(1, jnp.int32)
    images = jnp.zeros((1, g.image_size, g.image_size, g.image_channels))
    return g.init(key, jnp.zeros((1, 64)), label, True), d.init(key, images, label, True)


def squared_gradient_norm(logits, x):
    """Returns the squared norm of each image's gradient, for the penalty of second order."""
    return jnp.sum(jnp.square(jax.grad(lambda x: logits(x).sum())(x)), axis=(1, 2, 3))


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


def test_a_small_version_is_a_matter_of_fields():
    shapes = jax.eval_shape(lambda: initialise(*nets(10, (64,) * 4, 32)))
    assert all(sum(x.size for x in jax.tree.leaves(v)) < 500_000 for v in shapes)


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
    penalty = jax.jit(lambda v: squared_gradient_norm(lambda x: apply(v, x, np.ones(4, int))[0], IMAGES))
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


def test_logit_is_linear_in_the_class_vector():
    apply, variables = small()[1]
    params = scattered(variables)["params"]
    table = params["classes"]["embedding"]
    params |= {"classes": {"embedding": table.at[2].set(table[0] + table[1])}}
    images = IMAGES[[0, 0, 0, 1]]
    logits, _ = apply({"params": params}, images, LABELS)
    np.testing.assert_allclose(logits[2], logits[0] + logits[1], rtol=1e-4)


def test_low_precision_in_the_four_largest_stages_but_never_at_4x4():
    """As published: 32 and 64 pixels have 4x4 in float32, 256 pixels also 8x8 and 16x16."""
    for num_stages, full in ((4, [0]), (5, [0]), (7, [0, 1, 2])):
        policies = [r3gan.stage_policy(i, num_stages, jnp.bfloat16)["dtype"] for i in range(num_stages)]
        assert [i for i, dtype in enumerate(policies) if dtype == jnp.float32] == full


def test_second_derivatives_in_bfloat16():
    """The gradient of a penalty of D is finite and float32."""
    d, variables = nets(10, dtype=jnp.bfloat16)[1], scattered(small()[1][1], 0.1)

    def penalty(variables):
        return jnp.mean(squared_gradient_norm(lambda x: d.apply(variables, x, LABELS, True)[0], IMAGES))

    grads = jax.jit(jax.grad(penalty))(variables)
    assert {x.dtype for x in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
    assert np.any(grads["params"]["block_0_0"]["spatial"]["kernel"])


@pytest.mark.parametrize("module", [r3gan.Generator, r3gan.Discriminator])
def test_groups_must_divide_the_hidden_channels(module):
    net = module(image_size=8, channels=(12, 12))
    x = jnp.zeros((1, 64) if module is r3gan.Generator else (1, 8, 8, 3))
    with pytest.raises(ValueError, match=r"^group_width=16: must divide the 24 channels"):
        jax.eval_shape(lambda: net.init(jax.random.key(0), x, None, True))
