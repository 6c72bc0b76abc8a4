"""R3GAN2: weights that act by direction only, magnitudes that stay, noise of each example."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxgan.models import r3gan2
from jaxgan.models.r3gan2 import Block, Stage, enlarge, normalise_kernel, normalise_params, reduce
from tests.helpers import random_keys


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
    apply_d = jax.jit(lambda variables, images, labels: d.apply(variables, images, labels, True)[0])
    return (apply_g, variables_g), (apply_d, variables_d)


# Three examples, so that every test runs the same program.
Z = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
IMAGES = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(3)


KEYS = random_keys(3)


normalise = jax.jit(normalise_params)


def squared_gradient_norm(logits, x):
    """Returns the squared norm of each image's gradient, for the penalty of second order."""
    return jnp.sum(jnp.square(jax.grad(lambda x: logits(x).sum())(x)), axis=(1, 2, 3))


def scattered(variables, scale=0.5):
    """`variables` plus normal draws: residual branches take part, classes differ."""
    draws = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.asarray(x) + np.float32(scale * draws.normal(size=x.shape)), variables)


def named(change, params):
    """Applies change(name, value) to every leaf."""
    return jax.tree_util.tree_map_with_path(lambda path, value: change(path[-1].key, np.asarray(value)), params)


def test_a_small_version_is_a_matter_of_fields():
    shapes = jax.eval_shape(lambda: initialise(*nets(10, (64,) * 3, 32, blocks=2)))
    assert all(sum(x.size for x in jax.tree.leaves(v)) < 500_000 for v in shapes)


def test_normalised_weights():
    """Each filter has RMS 1 and, but for those to and from pixels, mean 0; all else is untouched; twice is once."""
    for _, variables in small():
        params = scattered(variables)["params"]
        once = normalise(params)
        for path, kernel in jax.tree_util.tree_leaves_with_path(once):
            if path[-1].key in r3gan2.CENTRED:
                filters = np.asarray(kernel).reshape(-1, kernel.shape[-1])
                np.testing.assert_allclose(np.sqrt(np.mean(filters**2, axis=0)), 1.0, atol=1e-3)
                assert (np.abs(filters.mean(axis=0)).max() < 1e-5) == ("pixels" not in path[0].key)
        np.testing.assert_array_equal(once["stage_0"]["block_0"]["alpha"], params["stage_0"]["block_0"]["alpha"])
        for a, b in zip(jax.tree.leaves(normalise(once)), jax.tree.leaves(once), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)  # the 1e-4 that is added to an RMS


def test_only_the_direction_of_a_stored_weight_acts():
    """Scaled filters, shifted ones where they are centred, normalised ones: the same function."""
    draws = np.random.default_rng(1)

    def changed(name, value):
        if name not in r3gan2.CENTRED:
            return value
        shift = draws.normal(size=value.shape[-1]) if name == "kernel_centred" else 0.0
        return ((value + shift) * np.exp(draws.normal(size=value.shape[-1]))).astype(np.float32)

    for (apply, variables), inputs in zip(small(), ((Z, LABELS, KEYS), (IMAGES, LABELS)), strict=True):
        params = scattered(variables)["params"]
        expected = apply({"params": params}, *inputs)
        for other in (named(changed, params), normalise(params)):
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
    x = np.random.default_rng(0).standard_normal((16, 8, 8, 128), np.float32)
    image = np.random.default_rng(1).standard_normal((16, 8, 8, 1), np.float32) if noise else None

    @jax.jit
    def run():
        params = block.init(jax.random.key(2), x, jnp.ones(128), image)["params"]
        params |= {"alpha": jnp.linspace(0, 2, 128)}
        return block.apply({"params": params}, x, jnp.ones(128), image)

    y, variance = jax.device_get(run())
    np.testing.assert_allclose(variance, 1 + np.tanh(np.linspace(0, 2, 128)) ** 2, rtol=1e-5)
    x, y = (np.asarray(a)[:, 1:-1, 1:-1, 1:] for a in (x, y))  # beyond the border there are zeros; alpha_0 is 0
    # Biases (constant in each channel, random over channels) have their share of the variance.
    np.testing.assert_allclose((np.mean((y - x) ** 2, axis=(0, 1, 2)) / (variance[1:] - 1)).mean(), 1.0, atol=0.05)
    np.testing.assert_allclose((np.mean(y**2, axis=(0, 1, 2)) / variance[1:]).mean(), 1.0, atol=0.05)


def test_stage_returns_the_factor_back_to_variance_one():
    stage = Stage(blocks=3, expansion=2, group_width=32)
    x = np.random.default_rng(0).standard_normal((16, 8, 8, 64), np.float32)

    @jax.jit
    def run():
        params = stage.init(jax.random.key(2), x)["params"]
        params = jax.tree.map(lambda p: jnp.linspace(0, 1, 64) if p.ndim == 1 else p, params)
        return stage.apply({"params": params}, x)

    y, scale = jax.device_get(run())
    np.testing.assert_allclose(scale, 1 / np.sqrt(1 + 3 * np.tanh(np.linspace(0, 1, 64)) ** 2), rtol=1e-5)
    np.testing.assert_allclose(np.mean(np.square(y * scale)[:, 3:-3, 3:-3]), 1.0, atol=0.05)


def test_classes_are_the_same_at_first():
    """In both nets; each then learns its own."""
    (apply_g, variables_g), (apply_d, variables_d) = small()
    keys = KEYS[np.zeros(3, int)]
    for outputs, variables in (
        (lambda v: apply_g(v, Z[[0, 0, 0]], LABELS, keys), variables_g),
        (lambda v: apply_d(v, IMAGES[[0, 0, 0]], LABELS), variables_d),
    ):
        one, two, _ = np.asarray(outputs(variables))
        np.testing.assert_allclose(one, two, atol=1e-5)
        one, two, _ = np.asarray(outputs(scattered(variables)))
        assert np.abs(one - two).max() > 1e-3


def test_noise_belongs_to_the_example():
    """An example's image depends on its own key, wherever in the batch; and only once a residual branch is open."""
    apply, variables = small()[0]
    z, labels = Z[[0, 0, 0]], LABELS[[1, 1, 1]]
    one, two, _ = np.asarray(apply(variables, z, labels, KEYS))
    np.testing.assert_allclose(one, two, atol=1e-5)
    images = np.asarray(apply(scattered(variables), z, labels, KEYS))
    assert np.abs(images[0] - images[1]).max() > 1e-3
    np.testing.assert_allclose(apply(scattered(variables), z, labels, KEYS[::-1]), images[::-1], atol=1e-5)


def test_generator_without_keys():
    with pytest.raises(ValueError, match="keys=None"):
        jax.eval_shape(lambda: nets()[0].init(jax.random.key(0), jnp.zeros((1, 64)), None, True))


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


def test_second_derivatives_in_bfloat16():
    """The gradient of a penalty of D is finite and float32."""
    d, variables = nets(10, dtype=jnp.bfloat16)[1], scattered(small()[1][1])

    def penalty(variables):
        return jnp.mean(squared_gradient_norm(lambda x: d.apply(variables, x, LABELS, True)[0], IMAGES))

    grads = jax.jit(jax.grad(penalty))(variables)
    assert {x.dtype for x in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
    assert np.any(grads["params"]["stage_0"]["block_0"]["spatial"]["kernel_centred"])


def test_normalisation_has_the_gradient_of_a_direction():
    """Along a filter itself it is zero: what an optimizer adds to it turns it, and only makes it longer."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 5), np.float32)
    _, along = jax.jit(lambda: jax.jvp(lambda k: normalise_kernel(k, True), (kernel,), (kernel + 7.0,)))()
    np.testing.assert_allclose(along, 0.0, atol=1e-3)


@pytest.mark.parametrize("module", [r3gan2.Generator, r3gan2.Discriminator])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(image_size=8, channels=(24,)), "^group_width=32: must divide the 48 channels"),
        (dict(image_size=16, channels=(96, 160)), "^channels=.*96, 160, .*must be a multiple of"),
    ],
)
def test_what_cannot_work_is_said(module, fields, message):
    net = module(**fields)
    shape = (1, 64) if module is r3gan2.Generator else (1, net.image_size, net.image_size, 3)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: net.init(key, jnp.zeros(shape), None, True, key[None]))
