"""R3GAN2: sizes to the digit, weights that act by direction only, magnitudes that stay, noise of each example."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxgan.gan.penalties import squared_gradient_norm
from jaxgan.models import r3gan2
from jaxgan.models.r3gan2 import Block, Stage, enlarge, normalise, normalise_weights, reduce

# Of the official networks: CIFAR-10 with and without classes, FFHQ, ImageNet.
COUNTS = [
    (32, 0, (), 17_269_249, 17_192_448),
    (32, 10, (), 17_335_425, 17_720_832),
    (256, 0, (), 24_855_425, 24_771_456),
    (64, 1000, r3gan2.IMAGENET_WIDTHS[64], 80_104_961, 82_867_200),
]


def nets(num_classes=0, widths=(16,), size=8, blocks=1, group_width=16, **fields):
    """The smallest ones: a stage of one block."""
    common = dict(image_size=size, num_classes=num_classes, blocks=blocks, group_width=group_width, **fields)
    return r3gan2.Generator(channels=widths, **common), r3gan2.Discriminator(channels=widths[::-1], **common)


def initialise(g, d):
    key, label = jax.random.key(0), jnp.zeros(1, jnp.int32)
    images = jnp.zeros((1, g.image_size, g.image_size, g.image_channels))
    return g.init(key, jnp.zeros((1, 64)), label, True, key[None]), d.init(key, images, label, True)


@functools.cache
def small():
    """With 10 classes: (G of (variables, z, labels, keys), its variables at first), (D, its variables)."""
    g, d = nets(10)
    variables_g, variables_d = jax.jit(lambda: initialise(g, d))()
    apply_g = jax.jit(lambda variables, z, labels, keys: g.apply(variables, z, labels, True, keys))
    apply_d = jax.jit(lambda variables, images, labels: d.apply(variables, images, labels, True))
    return (apply_g, variables_g), (apply_d, variables_d)


# Three examples, so that every test runs the same program.
Z = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
IMAGES = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(3)


normalise_jitted = jax.jit(normalise_weights)


def example_keys():
    return jax.random.split(jax.random.key(2), 3)


def scattered(variables, scale=0.5):
    """`variables` plus normal draws: residual branches take part, classes differ."""
    draws = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + scale * draws.normal(size=x.shape).astype(np.float32), variables)


def named(change, params):
    """Applies change(name, value) to every leaf."""
    return jax.tree_util.tree_map_with_path(lambda path, value: change(path[-1].key, np.asarray(value)), params)


@pytest.mark.parametrize(("size", "num_classes", "widths", "count_g", "count_d"), COUNTS)
def test_parameter_counts(size, num_classes, widths, count_g, count_d):
    common = dict(image_size=size, num_classes=num_classes, channels=widths)
    shapes = jax.eval_shape(lambda: initialise(r3gan2.Generator(**common), r3gan2.Discriminator(**common)))
    assert [sum(x.size for x in jax.tree.leaves(v)) for v in shapes] == [count_g, count_d]


def test_a_small_version_is_a_matter_of_fields():
    shapes = jax.eval_shape(lambda: initialise(*nets(10, (64,) * 3, 32, blocks=2)))
    assert all(sum(x.size for x in jax.tree.leaves(v)) < 500_000 for v in shapes)


@pytest.mark.parametrize("size", [min(r3gan2.G_WIDTHS), max(r3gan2.G_WIDTHS)])
def test_shapes(size):
    common = dict(image_size=size, image_channels=4, num_classes=10, blocks=1)
    g, d = r3gan2.Generator(**common), r3gan2.Discriminator(**common)

    def run():
        variables_g, variables_d = initialise(g, d)
        keys = jax.random.split(jax.random.key(1), 2)
        images = g.apply(variables_g, jnp.zeros((2, 64)), jnp.arange(2), True, keys)
        return images, d.apply(variables_d, images, jnp.arange(2), True)

    images, logits = jax.eval_shape(run)
    assert (images.shape, images.dtype) == ((2, size, size, 4), jnp.float32)
    assert (logits.shape, logits.dtype) == ((2,), jnp.float32)


def test_normalised_weights():
    """Each filter has RMS 1 and, but for those to and from pixels, mean 0; all else is untouched; twice is once."""
    for _, variables in small():
        params = scattered(variables)["params"]
        once = normalise_jitted(params)
        for path, kernel in jax.tree_util.tree_leaves_with_path(once):
            if path[-1].key in r3gan2.CENTRED:
                filters = np.asarray(kernel).reshape(-1, kernel.shape[-1])
                np.testing.assert_allclose(np.sqrt(np.mean(filters**2, axis=0)), 1.0, atol=1e-3)
                assert (np.abs(filters.mean(axis=0)).max() < 1e-5) == ("pixels" not in path[0].key)
        np.testing.assert_array_equal(once["stage_0"]["block_0"]["alpha"], params["stage_0"]["block_0"]["alpha"])
        for a, b in zip(jax.tree.leaves(normalise_jitted(once)), jax.tree.leaves(once), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)  # the 1e-4 that is added to an RMS


def test_only_the_direction_of_a_stored_weight_acts():
    """Scaled filters, shifted ones where they are centred, normalised ones: the same function."""
    draws = np.random.default_rng(1)

    def changed(name, value):
        if name not in r3gan2.CENTRED:
            return value
        shift = draws.normal(size=value.shape[-1]) if name == "kernel_centred" else 0.0
        return ((value + shift) * np.exp(draws.normal(size=value.shape[-1]))).astype(np.float32)

    for (apply, variables), inputs in zip(small(), ((Z, LABELS, example_keys()), (IMAGES, LABELS)), strict=True):
        params = scattered(variables)["params"]
        expected = apply({"params": params}, *inputs)
        for other in (named(changed, params), normalise_jitted(params)):
            error = np.linalg.norm(apply({"params": other}, *inputs) - expected)
            assert error < 1e-2 * np.linalg.norm(expected)


def test_activation_keeps_the_standard_deviation():
    """Of a standard normal variable, by quadrature."""
    x = np.linspace(-10, 10, 200_001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    y = np.asarray(r3gan2.leaky_relu(jnp.asarray(x)))
    np.testing.assert_allclose((density * y**2).sum() - (density * y).sum() ** 2, 1.0, rtol=1e-4)


@pytest.mark.parametrize("noise", [False, True])
def test_block_has_the_variance_that_it_says(noise):
    """x of variance 1 and a branch of alpha^2 in each channel, with independent weights."""
    block = Block(expansion=2, group_width=32)
    x = jax.random.normal(jax.random.key(0), (16, 8, 8, 128))
    image = jax.random.normal(jax.random.key(1), (16, 8, 8, 1)) if noise else None

    @jax.jit
    def run():
        params = block.init(jax.random.key(2), x, jnp.ones(128), image)["params"]
        params |= {"alpha": jnp.linspace(0, 2, 128)}
        return block.apply({"params": params}, x, jnp.ones(128), image)

    y, variance = run()
    np.testing.assert_allclose(variance, 1 + np.tanh(np.linspace(0, 2, 128)) ** 2, rtol=1e-5)
    x, y = (np.asarray(a)[:, 1:-1, 1:-1, 1:] for a in (x, y))  # beyond the border there are zeros; alpha_0 is 0
    # Biases (constant in each channel, random over channels) have their share of the variance.
    np.testing.assert_allclose((np.mean((y - x) ** 2, axis=(0, 1, 2)) / (variance[1:] - 1)).mean(), 1.0, atol=0.05)
    np.testing.assert_allclose((np.mean(y**2, axis=(0, 1, 2)) / variance[1:]).mean(), 1.0, atol=0.05)


def test_stage_returns_the_factor_back_to_variance_one():
    stage = Stage(blocks=3, expansion=2, group_width=32)
    x = jax.random.normal(jax.random.key(0), (16, 8, 8, 64))

    @jax.jit
    def run():
        params = stage.init(jax.random.key(2), x)["params"]
        params = jax.tree.map(lambda p: jnp.linspace(0, 1, 64) if p.ndim == 1 else p, params)
        return stage.apply({"params": params}, x)

    y, scale = run()
    np.testing.assert_allclose(scale, 1 / np.sqrt(1 + 3 * np.tanh(np.linspace(0, 1, 64)) ** 2), rtol=1e-5)
    np.testing.assert_allclose(np.mean(np.square(y * scale)[:, 3:-3, 3:-3]), 1.0, atol=0.05)


def test_classes_are_the_same_at_first():
    """In both nets; each then learns its own."""
    (apply_g, variables_g), (apply_d, variables_d) = small()
    keys = jnp.tile(jax.random.key(2)[None], 3)
    for outputs, variables in (
        (lambda v: apply_g(v, Z[[0, 0, 0]], LABELS, keys), variables_g),
        (lambda v: apply_d(v, IMAGES[[0, 0, 0]], LABELS), variables_d),
    ):
        one, two, _ = outputs(variables)
        np.testing.assert_allclose(one, two, atol=1e-5)
        one, two, _ = outputs(scattered(variables))
        assert np.abs(one - two).max() > 1e-3


def test_noise_belongs_to_the_example():
    """An example's image depends on its own key, wherever in the batch; and only once a residual branch is open."""
    apply, variables = small()[0]
    z, labels, keys = Z[[0, 0, 0]], LABELS[[1, 1, 1]], example_keys()
    one, two, _ = apply(variables, z, labels, keys)
    np.testing.assert_allclose(one, two, atol=1e-5)
    images = apply(scattered(variables), z, labels, keys)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    np.testing.assert_allclose(apply(scattered(variables), z, labels, keys[::-1]), images[::-1], atol=1e-5)


def test_generator_without_keys():
    with pytest.raises(ValueError, match="keys=None"):
        jax.eval_shape(lambda: nets()[0].init(jax.random.key(0), jnp.zeros((1, 64)), None, True))


def test_examples_do_not_mix():
    apply, variables = small()[1]
    logits = apply(variables, IMAGES, LABELS)
    np.testing.assert_allclose(apply(variables, IMAGES * np.reshape([1, 1, 5], (3, 1, 1, 1)), LABELS)[:2], logits[:2])
    assert r3gan2.Discriminator.mixes_examples is False


def smoothed(x):
    return scipy.signal.convolve2d(x, np.outer([1, 2, 1], [1, 2, 1]) / 16, mode="same")


def test_resampling_to_another_width():
    """Half the width: 2x2 pixels are two copies each of two channels. Twice: a channel is the mean of two pixels."""
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 4)).astype(np.float32)
    up = np.zeros((12, 12, 2))
    for i in range(2):
        for j in range(2):
            up[i::2, j::2] = x[0, :, :, [(2 * i + j) // 2, 2 + (2 * i + j) // 2]].transpose(1, 2, 0)
    expected = np.stack([smoothed(up[..., c]) for c in range(2)], axis=-1)
    np.testing.assert_allclose(jax.jit(enlarge, static_argnums=1)(x, 2)[0], expected, atol=1e-6)

    rows = np.stack([smoothed(x[0, :, :, c]) for c in range(4)], axis=-1).reshape(3, 2, 3, 2, 4)
    expected = rows.mean(axis=3).transpose(0, 2, 3, 1).reshape(3, 3, 8)  # pairs of pixels in a row
    np.testing.assert_allclose(jax.jit(reduce, static_argnums=1)(x, 8)[0], expected, atol=1e-6)


def test_bfloat16_keeps_float32_outputs_and_gradients():
    """Images and logits near those in float32; the gradient of a penalty of D, which is of second order, is finite."""
    (apply_g, variables_g), (apply_d, variables_d) = small()
    variables_g, variables_d = scattered(variables_g), scattered(variables_d)
    g, d = nets(10, dtype=jnp.bfloat16)

    def penalty(variables_d):
        return jnp.mean(squared_gradient_norm(lambda x: d.apply(variables_d, x, LABELS, True), IMAGES))

    @jax.jit
    def run():
        images, logits = (
            g.apply(variables_g, Z, LABELS, True, example_keys()),
            d.apply(variables_d, IMAGES, LABELS, True),
        )
        return images, logits, jax.grad(penalty)(variables_d)

    images, logits, grads = run()
    assert {x.dtype for x in jax.tree.leaves((images, logits, grads))} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
    assert np.any(grads["params"]["stage_0"]["block_0"]["spatial"]["kernel_centred"])
    expected = apply_g(variables_g, Z, LABELS, example_keys()), apply_d(variables_d, IMAGES, LABELS)
    for low, full in zip((images, logits), expected, strict=True):
        assert 0 < np.linalg.norm(low - full) < 0.05 * np.linalg.norm(full)


def test_normalisation_has_the_gradient_of_a_direction():
    """Along a filter itself it is zero: what an optimizer adds to it turns it, and only makes it longer."""
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 5))
    _, along = jax.jvp(lambda k: normalise(k, True), (kernel,), (kernel + 7.0,))
    np.testing.assert_allclose(along, 0.0, atol=1e-3)


@pytest.mark.parametrize("module", [r3gan2.Generator, r3gan2.Discriminator])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(image_size=4), "image_size=4: choose one of 8, 16, 32"),
        (dict(image_size=16, channels=(32, 32, 32)), "16 pixels take 2 widths"),
        (dict(image_size=8, channels=(24,)), "group_width=32 does not divide the 48 channels"),
        (dict(image_size=16, channels=(96, 160)), "must be a multiple"),
    ],
)
def test_what_cannot_work_is_said(module, fields, message):
    net = module(**fields)
    shape = (1, 64) if module is r3gan2.Generator else (1, net.image_size, net.image_size, 3)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: net.init(key, jnp.zeros(shape), None, True, key[None]))
