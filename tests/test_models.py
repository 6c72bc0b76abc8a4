"""Sizes to the digit, shapes, logits, conditioning, precision."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import MODELS
from jaxgan.models.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    broadcast_like,
    conv_downsample,
    downsample,
    dropout,
    upsample,
    upsample_conv,
)
from jaxgan.ops.conv import conv

# Of the published networks (StudioGAN, mimicry); dcgan's conditional form adds tables of 10 classes:
# G: batch norm 256, 128, 64 -> 10 x 2 instead of 2 per channel; D: an embedding of 512.
COUNTS = {
    ("dcgan", 0): (3_812_355, 2_931_009),
    ("dcgan", 10): (3_812_355 + 18 * (256 + 128 + 64), 2_931_009 + 5120),
    # 4x4 convolutions with a bias, batch norm but on the first of D's, dense layers to and from 4x4 pixels of 256:
    ("dcgan_strided", 0): (
        129 * 4096 + 512 + (16 * 256 * 128 + 128 + 256) + (16 * 128 * 64 + 64 + 128) + (16 * 64 * 3 + 3),
        (16 * 3 * 64 + 64) + (16 * 64 * 128 + 128 + 256) + (16 * 128 * 256 + 256 + 512) + 4097,
    ),
    ("sngan", 0): (4_276_739, 1_053_825),
    ("sngan", 10): (4_304_387, 1_055_105),
    ("mlp", 0): (
        129 * 128 + 256 + 129 * 1024 + 2048 + 1025 * 3072,
        27 * 64 + 64 + 576 * 128 + 128 + 8 * 8 * 128 + 1,
    ),
}
# StyleGAN2 and R3GAN, whose images are not bounded, have tests of their own.
TINY = {"mlp": ((16, 16), (8, 8)), "dcgan": ((16, 8, 8), (8, 8, 16)), "sngan": ((16, 8, 8), (8, 8, 8))}
TINY |= dict.fromkeys(("sagan", "biggan"), TINY["sngan"]) | {"dcgan_strided": ((16, 8), (8, 16))}


def build(name, size=16, num_classes=0, tiny=True, **fields):
    g_channels, d_channels = TINY[name] if tiny else ((), ())
    common = dict(image_size=size, num_classes=num_classes, **fields)
    g = MODELS[name].Generator(channels=g_channels, **common)
    d = MODELS[name].Discriminator(channels=d_channels, **common)
    return g, d


def initialise(g, d, size=16):
    key, label = jax.random.key(0), jnp.zeros(1, jnp.int32)
    keys = jax.random.split(key, 1)
    variables_g = g.init(key, jnp.zeros((1, 128)), label, False, keys)
    variables_d = d.init(key, jnp.zeros((1, size, size, g.image_channels)), label, False, keys)
    return variables_g, variables_d


@pytest.mark.parametrize(("name", "num_classes"), COUNTS)
def test_parameter_counts_at_32_pixels(name, num_classes):
    shapes = jax.eval_shape(lambda: initialise(*build(name, 32, num_classes, tiny=False), 32))
    counts = tuple(sum(x.size for x in jax.tree.leaves(v["params"])) for v in shapes)
    assert counts == COUNTS[name, num_classes]


@pytest.mark.parametrize(
    ("name", "size"),
    [("mlp", 8), ("mlp", 28), ("mlp", 64)]
    + [(n, s) for n in ("dcgan", "dcgan_strided", "sngan") for s in (16, 32, 64)],
)
@pytest.mark.parametrize("num_classes", [0, 10])
def test_shapes_at_every_size(name, size, num_classes):
    g, d = build(name, size, num_classes, tiny=False)

    def run():
        variables_g, variables_d = initialise(g, d, size)
        labels, keys = jnp.arange(2), jax.random.split(jax.random.key(1), 2)
        images = g.apply(variables_g, jnp.zeros((2, 128)), labels, False, keys)
        return images, d.apply(variables_d, images, labels, False, keys)

    images, logits = jax.eval_shape(run)
    assert (images.shape, images.dtype) == ((2, size, size, 3), jnp.float32)
    assert (logits.shape, logits.dtype) == ((2,), jnp.float32)


@pytest.mark.parametrize("name", TINY)
def test_logits_are_not_probabilities_and_images_are_in_range(name):
    g, d = build(name)
    variables_g, variables_d = initialise(g, d)
    keys = jax.random.split(jax.random.key(1), 4)
    images = g.apply(variables_g, 100 * jax.random.normal(jax.random.key(2), (4, 128)), None, False, keys)
    assert float(jnp.abs(images).max()) <= 1.0
    # Nothing squashes the last layer: what is added to its bias is added to the logits.
    raised = jax.tree.map(lambda x: x, variables_d)
    raised["params"]["logit"]["bias"] += 7.0
    logits, higher = (d.apply(v, images, None, False, keys) for v in (variables_d, raised))
    np.testing.assert_allclose(higher - logits, 7.0, rtol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_labels_matter_only_to_a_conditional_net(name):
    x = jax.random.normal(jax.random.key(2), (2, 16, 16, 3))
    z = jax.random.normal(jax.random.key(3), (2, 128))
    keys = jax.random.split(jax.random.key(1), 2)
    for num_classes in (0, 10):
        g, d = build(name, num_classes=num_classes)
        # Class tables start at zero: any values do, so that labels can act.
        variables = jax.tree.map(
            lambda v: v + 0.1 * jax.random.normal(jax.random.key(v.size), v.shape), initialise(g, d)
        )
        for module, variables_, inputs in zip((g, d), variables, (z, x), strict=True):
            one, two = (module.apply(variables_, inputs, jnp.full(2, y), False, keys) for y in (1, 2))
            assert bool(jnp.any(one != two)) == bool(num_classes)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_keeps_float32_parameters_and_outputs(name):
    outputs = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        g, d = build(name, dtype=dtype)
        variables_g, variables_d = initialise(g, d)
        assert {x.dtype for x in jax.tree.leaves((variables_g, variables_d))} == {jnp.dtype(jnp.float32)}
        keys = jax.random.split(jax.random.key(1), 4)
        images = g.apply(variables_g, jax.random.normal(jax.random.key(2), (4, 128)), None, False, keys)
        logits = d.apply(variables_d, images, None, False, keys)
        assert images.dtype == logits.dtype == jnp.float32
        outputs[dtype] = images
    difference = jnp.abs(outputs[jnp.bfloat16] - outputs[jnp.float32])
    assert 0 < float(difference.max()) < 0.05


def test_spectral_norm_bounds_every_weight_of_sngan():
    """After many power iterations each normalised weight, as a matrix, has largest singular value 1."""
    _, d = build("sngan")
    _, variables = initialise(*build("sngan"))
    x, keys = jax.random.normal(jax.random.key(2), (2, 16, 16, 3)), jax.random.split(jax.random.key(1), 2)
    step = jax.jit(lambda v: {**v, **d.apply(v, x, None, True, keys, mutable=["batch_stats"])[1]})
    for _ in range(60):
        variables = step(variables)
    kernel = variables["params"]["conv_0b"]["kernel"]
    sigma = variables["batch_stats"]["sn_conv_0b"]["conv_0b/kernel/sigma"]
    expected = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    np.testing.assert_allclose(sigma, expected, rtol=1e-3)


def test_conditional_batch_norm_is_an_affine_map_of_each_class():
    layer = BatchNorm(num_classes=3)
    x, labels = jax.random.normal(jax.random.key(0), (4, 2, 2, 5)), jnp.array([0, 2, 1, 2])
    variables = layer.init(jax.random.key(0), x, labels, False)
    gain, bias = jax.random.normal(jax.random.key(1), (2, 3, 5))
    params = {"gain": {"embedding": gain}, "bias": {"embedding": bias}}
    out, _ = layer.apply({**variables, "params": params}, x, labels, True, mutable=["batch_stats"])
    normal = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)
    expected = normal * (1 + gain[labels])[:, None, None] + bias[labels][:, None, None]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_conv_transpose_is_the_adjoint_of_a_strided_convolution():
    """<conv(y), x> = <y, conv_transpose(x)> for the same kernel (4x4, stride 2, padding 1: 4 -> 8 pixels)."""
    layer = ConvTranspose(3, 4, 2)
    x, y = (
        jax.random.normal(jax.random.key(0), (2, 4, 4, 5)),
        jax.random.normal(jax.random.key(1), (2, 8, 8, 3)),
    )
    variables = layer.init(jax.random.key(2), x)
    up = layer.apply(variables, x)
    assert up.shape == y.shape
    kernel = variables["params"]["kernel"].swapaxes(2, 3)  # [4, 4, 3, 5]
    down = jax.lax.conv_general_dilated(y, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(jnp.sum(up * y), jnp.sum(x * down), rtol=1e-4)


def test_resampling():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(downsample(upsample(x)), x)
    np.testing.assert_array_equal(upsample(x)[0, :, :, 0], np.kron(x[0, :, :, 0], np.ones((2, 2))))
    np.testing.assert_allclose(downsample(x), nn.avg_pool(x, (2, 2), (2, 2)))


def test_dropout_is_unbiased_and_belongs_to_the_example():
    x = jnp.ones((3, 4000))
    keys = jax.random.split(jax.random.key(0), 3)
    out = dropout(x, 0.3, keys)
    np.testing.assert_allclose(out.mean(axis=1), 1.0, atol=0.05)
    np.testing.assert_allclose((out == 0).mean(axis=1), 0.3, atol=0.03)
    np.testing.assert_array_equal(dropout(x[1:], 0.3, keys[1:]), out[1:])


@pytest.mark.parametrize(
    ("together", "apart"),
    [(upsample_conv, lambda x, k: conv(upsample(x), k)), (conv_downsample, lambda x, k: downsample(conv(x, k)))],
)
def test_resampling_and_convolution_are_one(together, apart):
    keys = jax.random.split(jax.random.key(0))
    x, kernel = jax.random.normal(keys[0], (2, 6, 4, 3)), jax.random.normal(keys[1], (3, 3, 3, 5))
    np.testing.assert_allclose(together(x, kernel), apart(x, kernel), atol=1e-5)
    gradients = [jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), (0, 1))(x, kernel) for f in (together, apart)]  # noqa: B023
    for ours, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-4)


def test_convolutions_are_those_of_flax():
    x, key = jax.random.normal(jax.random.key(0), (2, 8, 8, 6)), jax.random.key(1)
    options = dict(strides=2, feature_group_count=2, bias_init=nn.initializers.ones)
    wanted, variables = nn.Conv(4, (3, 3), **options).init_with_output(key, x)
    layer = Conv(4, (3, 3), strides=2, feature_group_count=2)
    np.testing.assert_array_equal(layer.init(key, x)["params"]["kernel"], variables["params"]["kernel"])
    np.testing.assert_allclose(layer.apply(variables, x), wanted, atol=1e-6)


def test_biases_have_gradients_in_float32():
    """3840 * (1 + 2 ** -7) is not a bfloat16."""
    x, y = jnp.zeros((15, 16, 16, 3), jnp.bfloat16), jnp.zeros((15, 8, 8, 3), jnp.bfloat16)
    for layer, inputs in (
        (Conv(4, (3, 3), dtype=jnp.bfloat16), x),
        (ConvTranspose(4, 4, 2, dtype=jnp.bfloat16), y),
        (BatchNorm(2, dtype=jnp.bfloat16), x),
    ):
        args = (jnp.zeros(15, jnp.int32), True) if isinstance(layer, BatchNorm) else ()
        out, variables = layer.init_with_output(jax.random.key(0), inputs, *args)
        assert out.dtype == jnp.bfloat16

        def total(params, layer=layer, inputs=inputs, args=args, others=variables):
            out = layer.apply({**others, "params": params}, inputs, *args, mutable=["batch_stats"])[0]
            return jnp.sum(out.astype(jnp.float32) * (1 + 2**-7))

        gradients = jax.tree.leaves_with_path(jax.grad(total)(variables["params"]))
        (bias,) = [g for path, g in gradients if "bias" in jax.tree_util.keystr(path)]
        np.testing.assert_allclose(bias[..., :1].sum(), 3840 * (1 + 2**-7), rtol=1e-6)


def test_sums_over_pixels_are_made_in_float32():
    """In bfloat16 a sum of ones ends at 256, where 257 would be next."""
    x = jnp.zeros((15, 16, 16, 3), jnp.bfloat16)
    gradient = jax.grad(lambda values: jnp.sum(broadcast_like(values, x).astype(jnp.float32)))(x[0, 0, 0])
    np.testing.assert_array_equal(gradient, jnp.full(3, 3840, jnp.bfloat16))
