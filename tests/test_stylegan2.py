"""StyleGAN2: its layers against their definitions, truncation, style mixing, and independence of the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgan.models.stylegan2 import (
    Discriminator,
    EqualConv,
    EqualDense,
    Generator,
    Mapping,
    minibatch_stddev,
    modulated_conv,
)
from jaxgan.ops.blur import conv_down, conv_up
from jaxgan.ops.conv import conv
from tests.helpers import random_keys

Z = 16
TINY_G = dict(image_size=8, channels=(12, 8), w_dim=12)
TINY_D = dict(image_size=8, channels=(8, 12), mapping_layers=2, group_size=4)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def initialise(net, z_dim=Z):
    """Returns the variables of either net; compiled as one, which is much quicker than operation by operation."""
    shape = (z_dim,) if isinstance(net, Generator) else (net.image_size, net.image_size, net.image_channels)
    return jax.jit(lambda: net.init(jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros(1, int), False))()


def apply(net, variables, *args, keys=None, **options):
    """`net.apply`, compiled."""
    return jax.jit(lambda args, keys: net.apply(variables, *args, keys=keys, **options))(args, keys)


@pytest.fixture(scope="module")
def generator():
    """A tiny generator and variables with noise, biases and a mean w other than 0."""
    g = Generator(**TINY_G, num_classes=3)
    leaves, tree = jax.tree.flatten(initialise(g))
    random = np.random.default_rng(0)
    variables = tree.unflatten(np.asarray(v) + 0.3 * random.standard_normal(v.shape, np.float32) for v in leaves)
    return g, variables


@pytest.mark.parametrize(("convolve", "demodulate"), [(conv, True), (conv_up, True), (conv_down, True), (conv, False)])
def test_modulated_convolution_is_one_with_each_examples_weights(convolve, demodulate):
    random = np.random.default_rng(0)
    x, kernel, styles = (random.standard_normal(s, np.float32) for s in ((3, 6, 6, 4), (3, 3, 4, 5), (3, 4)))
    out = jax.jit(lambda *args: modulated_conv(*args, convolve=convolve, demodulate=demodulate))(x, kernel, styles)
    each = jax.jit(lambda x, weights: convolve(x[None], weights)[0])
    out = np.asarray(out)
    for b in range(3):
        weights = kernel * styles[b, :, None]
        if demodulate:
            weights /= np.sqrt(np.sum(weights**2, axis=(0, 1, 2)) + 1e-8)
        np.testing.assert_allclose(out[b], each(x[b], weights), rtol=1e-5, atol=1e-5)


def test_layers_keep_the_variance_at_the_start():
    """Unit in, unit out; the activation leaves a mean square of (1 + 0.2^2) = 1.04 of a normal input."""
    random = np.random.default_rng(0)
    x = random.standard_normal((100, 50), np.float32)
    for lr_multiplier in (1.0, 0.01):
        out, variables = jax.device_get(jax.jit(EqualDense(200, lr_multiplier).init_with_output)(jax.random.key(0), x))
        np.testing.assert_allclose(out.std(), 1.0, rtol=0.03)
        np.testing.assert_allclose(variables["params"]["kernel"].std(), 1.0 / lr_multiplier, rtol=0.03)
    x = random.standard_normal((4, 10, 10, 20), np.float32)
    out = np.asarray(jax.jit(EqualConv(100).init_with_output)(jax.random.key(0), x)[0])
    np.testing.assert_allclose(np.mean(out[:, 1:-1, 1:-1] ** 2), 1.04, rtol=0.05)
    kernel, styles = random.standard_normal((3, 3, 20, 100), np.float32), 3.0 + random.standard_normal((4, 20))
    out = np.asarray(jax.jit(modulated_conv)(x, kernel, styles.astype(np.float32)))
    np.testing.assert_allclose(out[:, 1:-1, 1:-1].std(), 1.0, rtol=0.05)


def test_learning_rate_multiplier_scales_what_a_step_of_the_weights_does():
    x, variables = normal(0, 2, 5), {"params": {"kernel": normal(1, 5, 3), "bias": normal(2, 3)}}
    step = jax.tree.map(np.ones_like, variables)

    def change(m):
        return jax.jvp(lambda v: EqualDense(3, m).apply(v, x), (variables,), (step,))[1]

    small, one = jax.device_get(jax.jit(lambda: (change(0.01), change(1.0)))())
    np.testing.assert_allclose(small, 0.01 * one, rtol=1e-5)


@pytest.mark.parametrize(("group_size", "channels"), [(4, 1), (2, 3), (32, 2)])
def test_minibatch_stddev_is_its_definition(group_size, channels):
    x = np.random.default_rng(0).standard_normal((8, 2, 3, 6), np.float32)
    out = np.asarray(jax.jit(lambda x: minibatch_stddev(x, group_size, channels))(x))
    np.testing.assert_array_equal(out[..., :6], x)
    groups = 8 // min(group_size, 8)
    for i in range(8):
        members = x[i % groups :: groups]  # [group, 2, 3, 6]
        for c in range(channels):
            share = members[..., c * 6 // channels : (c + 1) * 6 // channels]
            np.testing.assert_allclose(out[i, ..., 6 + c], share.std(axis=0).mean(), rtol=1e-5)


@pytest.mark.slow
def test_devices_change_neither_logits_nor_gradients_of_d():
    """Loss and R1 with groups that span devices; gradients averaged as the update step does."""
    d = Discriminator(**TINY_D)
    variables, x = initialise(d), normal(0, 8, 8, 8, 3)

    def step(variables, x, axis_name=None):
        def critic(variables, x):
            return d.clone(axis_name=axis_name).apply(variables, x, None, True)[0]

        def objective(variables):
            logits = critic(variables, x)
            slopes = jax.grad(lambda x: critic(variables, x).sum())(x)
            return jnp.mean(nn.softplus(logits) + 10.0 * jnp.sum(jnp.square(slopes), axis=(1, 2, 3))), logits

        grads, logits = jax.grad(objective, has_aux=True)(variables)
        return (grads if axis_name is None else jax.lax.pmean(grads, axis_name)), logits

    grads, logits = jax.jit(step)(variables, x)
    shared = jax.pmap(
        lambda variables, x: step(variables, x, "batch"),
        axis_name="batch", in_axes=(None, 0), out_axes=(None, 0), devices=jax.devices()[:2],
    )  # fmt: skip
    shared_grads, shared_logits = shared(variables, x.reshape(2, 4, *x.shape[1:]))
    np.testing.assert_allclose(shared_logits.ravel(), logits, rtol=1e-5, atol=1e-6)
    for one, two in zip(jax.tree.leaves(grads), jax.tree.leaves(shared_grads), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-5 * float(jnp.abs(one).max()))


def test_mean_style_follows_the_batch_of_all_devices(generator):
    g, variables = generator
    z, labels = normal(0, 4, Z), np.arange(4) % 3

    @jax.jit
    def means():
        (w, none), (_, one) = (
            g.apply(variables, z, labels, train, method="mapping", mutable=["w_avg"]) for train in (False, True)
        )
        return w[:, 0], none["w_avg"]["mean"], one["w_avg"]["mean"]

    w, none, one = jax.device_get(means())
    expected = 0.995 * variables["w_avg"]["mean"] + 0.005 * w.mean(axis=0)
    np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(none, variables["w_avg"]["mean"])

    def shared(z, labels):
        net = g.clone(axis_name="batch")
        return net.apply(variables, z, labels, True, method="mapping", mutable=["w_avg"])[1]

    two = jax.pmap(shared, axis_name="batch", devices=jax.devices()[:2])(z.reshape(2, 2, Z), labels.reshape(2, 2))
    np.testing.assert_allclose(two["w_avg"]["mean"], np.stack([expected] * 2), rtol=1e-5, atol=1e-6)


def test_truncation(generator):
    g, variables = generator
    z, labels = normal(0, 4, Z), np.arange(4) % 3

    jitted = jax.jit(lambda psi, cutoff: g.apply(variables, z, labels, False, psi=psi, cutoff=cutoff, method="mapping"))

    def mapping(psi, cutoff=4):
        return np.asarray(jitted(psi, cutoff))

    net = Mapping(g.w_dim, g.mapping_layers, g.num_classes)
    w = jax.jit(net.apply)({"params": variables["params"]["mapping_net"]}, z, labels)
    ws, mean = mapping(1.0), variables["w_avg"]["mean"]
    np.testing.assert_allclose(ws, np.stack([w] * 4, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mapping(0.0), np.broadcast_to(mean, ws.shape))
    np.testing.assert_allclose(mapping(0.7), mean + 0.7 * (ws - mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mapping(0.0, 2)[:, 2:], ws[:, 2:])
    np.testing.assert_array_equal(mapping(0.0, 2)[:, :2], mapping(0.0)[:, :2])


def test_latents_are_normalised(generator):
    g, variables = generator
    z, labels = normal(0, 2, Z), np.arange(2)
    near, far = (apply(g, variables, scale * z, labels, train=False, method="mapping") for scale in (1.0, 100.0))
    np.testing.assert_allclose(near, far, rtol=1e-4, atol=1e-5)


def test_style_mixing_changes_the_layers_from_a_random_one_on(generator):
    g, variables = generator
    n = 32
    z, labels, keys = normal(0, n, Z), np.arange(n) % 3, random_keys(n)

    def mapping(probability, train=True):
        net = g.clone(style_mixing=probability)
        return jax.jit(lambda z, labels, keys: net.apply(variables, z, labels, train, keys, method="mapping"))

    plain, mix = np.asarray(mapping(0.0)(z, labels, keys)), mapping(1.0)
    mixed = np.asarray(mix(z, labels, keys))
    changed = (np.abs(mixed - plain) > 1e-4).any(axis=2)  # [n, num_ws]
    starts = 4 - changed.sum(axis=1)
    np.testing.assert_array_equal(changed, np.arange(4) >= starts[:, None])
    assert set(starts) == {1, 2, 3}
    for ws, start in zip(mixed, starts, strict=True):  # all of them of one second z
        np.testing.assert_allclose(ws[start:], np.broadcast_to(ws[-1], ws[start:].shape), atol=1e-6)
    np.testing.assert_allclose(mix(z[::-1], labels[::-1], keys[::-1]), mixed[::-1], atol=1e-5)  # of the example
    assert 0 < (np.abs(np.asarray(mapping(0.5)(z, labels, keys)) - plain) > 1e-4).any(axis=(1, 2)).sum() < n
    np.testing.assert_allclose(mapping(1.0, train=False)(z, labels, keys), plain, atol=1e-6)
    with pytest.raises(ValueError, match="keys"):
        mapping(1.0)(z, labels, None)


def test_noise_belongs_to_the_example(generator):
    g, variables = generator
    jitted = jax.jit(lambda ws, keys: g.apply(variables, ws, keys, method="synthesis"))

    def synthesis(ws, keys):
        return np.asarray(jitted(ws, keys))

    ws, ones = np.repeat(normal(0, 1, 4, 12), 3, axis=0), np.array([1, 1, 1])
    keys = random_keys(3)
    images = synthesis(ws, keys)
    assert np.abs(images[0] - images[1]).max() > 0.1
    np.testing.assert_allclose(synthesis(ws, keys[::-1]), images[::-1], atol=1e-5)
    np.testing.assert_allclose(synthesis(ws, keys[ones]), images[ones], atol=1e-5)
    silent = synthesis(ws, None)
    np.testing.assert_allclose(silent, silent[:1].repeat(3, axis=0), atol=1e-5)


def test_each_style_acts_and_the_last_one_linearly(generator):
    """The last, of the pixels at full size, is neither demodulated nor followed by an activation."""
    g, variables = generator
    ws = normal(0, 1, 4, 12)
    jitted = jax.jit(lambda ws: g.apply(variables, ws, method="synthesis"))
    here = np.asarray(jitted(ws))
    for i in range(4):
        step = np.float32(np.arange(4) == i)[:, None]
        more, less = (np.asarray(jitted(ws + sign * step)) for sign in (1, -1))
        assert np.abs(more - less).max() > 0.1
        bend = np.abs(more + less - 2 * here).max()
        assert bend < 1e-4 if i == 3 else bend > 1e-2


@pytest.mark.slow
def test_low_precision_is_for_large_resolutions_and_clamps():
    z, x = normal(0, 2, Z), normal(1, 2, 8, 8, 3)
    g, d = Generator(**TINY_G), Discriminator(**TINY_D)
    variables_g, variables_d = initialise(g), initialise(d)
    assert {v.dtype for v in jax.tree.leaves((variables_g, variables_d))} == {jnp.dtype(jnp.float32)}

    def images(**fields):
        return apply(g.clone(**fields), variables_g, z, None, train=False)

    def logits(**fields):
        return apply(d.clone(**fields), variables_d, x, None, train=False)[0]

    for outputs in (images, logits):
        full, half = outputs(conv_clamp=0.25), outputs(dtype=jnp.bfloat16)  # float32 is not clamped
        assert half.dtype == jnp.float32
        assert 0 < float(jnp.abs(half - full).max()) < 0.1 * float(jnp.abs(full).max())
        if outputs is images:  # a sum of two maps of pixels, each within the bound
            clamped = images(dtype=jnp.bfloat16, conv_clamp=0.25)
            assert float(jnp.abs(clamped).max()) <= 0.5 < float(jnp.abs(full).max())
            np.testing.assert_allclose(images(dtype=jnp.bfloat16, low_precision=0), full, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "fields", "message"),
    [
        (Discriminator, dict(architecture="skip"), "^architecture='skip': choose one of orig, resnet"),
        (Generator, dict(dtype=jnp.float16), "^dtype=float16: .* choose bfloat16 or float32"),
        (Discriminator, dict(channel_max=10, group_channels=3), "^group_channels=3: must divide the 10 channels"),
    ],
)
def test_mistakes_are_named(net, fields, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: initialise(net(**fields)))


def test_groups_must_divide_the_batch():
    with pytest.raises(ValueError, match=r"^group_size=4: must divide the 6 examples"):
        minibatch_stddev(jnp.zeros((6, 1, 1, 1)), 4)
