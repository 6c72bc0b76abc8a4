"""Losses against their formulas in float64, closed forms, and extreme logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.gan.losses import LOSSES, class_cross_entropy, d2d_cross_entropy, feature_matching, multi_hinge, top_k

REAL = np.array([-2.0, -0.3, 0.0, 0.7, 3.0])
FAKE = np.array([1.5, -1.1, 0.0, 0.2, -4.0])


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


# The definitions, written as the papers do.
FORMULAS = {
    "minimax": (
        lambda r, f: -np.log(sigmoid(r)) - np.log(1 - sigmoid(f)),
        lambda r, f: np.log(1 - sigmoid(f)),
    ),
    "ns": (lambda r, f: -np.log(sigmoid(r)) - np.log(1 - sigmoid(f)), lambda r, f: -np.log(sigmoid(f))),
    "hinge": (lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f), lambda r, f: -f),
    "lsgan": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
    "wgan": (lambda r, f: f - r, lambda r, f: -f),
    "rpgan": (lambda r, f: -np.log(sigmoid(r - f)), lambda r, f: -np.log(sigmoid(f - r))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_formula(name):
    for ours, formula in zip((LOSSES[name].d, LOSSES[name].g), FORMULAS[name], strict=True):
        np.testing.assert_allclose(
            ours(jnp.float32(REAL), jnp.float32(FAKE)), formula(REAL, FAKE), rtol=2e-6, atol=1e-6
        )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("real", [-1e4, 1e4])
@pytest.mark.parametrize("fake", [-1e4, 1e4])
def test_extreme_logits_have_finite_values_and_gradients(name, real, fake):
    for side in (LOSSES[name].d, LOSSES[name].g):
        value, grads = jax.value_and_grad(lambda r, f, side=side: side(r, f), argnums=(0, 1))(real, fake)
        assert np.isfinite(value)
        assert np.isfinite(grads).all()


def test_undecided_critic():
    zero = jnp.zeros(3)
    np.testing.assert_allclose(LOSSES["ns"].d(zero, zero), 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(LOSSES["rpgan"].d(zero + 5, zero + 5), np.log(2), rtol=1e-6)


def test_relativistic_game_is_symmetric_and_ignores_a_shift():
    r, f = jnp.float32(REAL), jnp.float32(FAKE)
    rpgan = LOSSES["rpgan"]
    np.testing.assert_array_equal(rpgan.g(r, f), rpgan.d(f, r))
    np.testing.assert_allclose(rpgan.d(r + 7, f + 7), rpgan.d(r, f), rtol=1e-5)


def test_minimax_saturates_where_non_saturating_does_not():
    """A critic that is sure of a fake leaves minimax without gradient (Goodfellow et al. 2014, section 3)."""
    slope = {n: float(jax.grad(lambda f, n=n: LOSSES[n].g(0.0, f))(-20.0)) for n in ("minimax", "ns")}
    assert abs(slope["minimax"]) < 1e-8
    assert slope["ns"] == pytest.approx(-1.0)


def test_class_cross_entropy_of_an_undecided_classifier_is_log_k():
    labels = jnp.array([0, 3, 6])
    np.testing.assert_allclose(class_cross_entropy(jnp.full((3, 7), 5.0), labels), np.log(7), rtol=1e-6)
    sure = 1e4 * jax.nn.one_hot(labels, 7)
    np.testing.assert_array_equal(class_cross_entropy(sure, labels), 0.0)
    np.testing.assert_allclose(class_cross_entropy(sure, (labels + 1) % 7), 1e4)


def test_multi_hinge_by_hand():
    logits = jnp.array([[3.0, 1.0, -2.0], [3.0, 2.5, 2.9], [0.0, 0.0, 0.0], [-1.0, 4.0, 0.5]])
    np.testing.assert_allclose(multi_hinge(logits, jnp.array([0, 0, 1, 2])), [0.0, 0.9, 1.0, 4.5], rtol=1e-6)


@pytest.mark.parametrize(("temperature", "margins"), [(0.5, (0.98, 0.02)), (0.1, (0.3, -0.2))])
def test_d2d_cross_entropy_pair_by_pair(temperature, margins):
    """Over two devices, whose negatives are those of the whole batch; an image without negatives has the loss 0."""
    rng = np.random.default_rng(0)
    f, v = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, 6, 3)))
    labels = np.array([0, 1, 1, 2, 0, 0])
    v = v[labels]
    expected = []
    for i in range(6):
        own, others = np.exp(min(f[i] @ v[i] - margins[0], 0) / temperature), 0.0
        for j in range(6):
            if labels[j] != labels[i]:
                others += np.exp(max(f[i] @ f[j] - margins[1], 0) / temperature)
        expected.append(-np.log(own / (own + others)))
    f, v, labels = jnp.float32(f), jnp.float32(v), jnp.asarray(labels)
    halves = (jnp.split(x, 2) for x in (f, v, labels))
    actual = [d2d_cross_entropy(*half, f, labels, temperature, *margins) for half in zip(*halves, strict=True)]
    np.testing.assert_allclose(jnp.concatenate(actual), expected, rtol=1e-5)
    alone = d2d_cross_entropy(f, v, 0 * labels, f, 0 * labels, temperature, *margins)
    np.testing.assert_allclose(alone, 0.0, atol=1e-6)


def test_feature_matching_is_the_distance_of_means_over_all_devices():
    real, fake = jax.random.normal(jax.random.key(0), (2, 8, 5))
    expected = np.sum(np.square(real.mean(0) - fake.mean(0)))
    np.testing.assert_allclose(feature_matching(real, fake), expected, rtol=1e-5)
    np.testing.assert_allclose(feature_matching(real, real[::-1]), 0.0, atol=1e-12)
    halves = real.reshape(2, 4, 5), fake.reshape(2, 4, 5)
    both = jax.vmap(lambda r, f: feature_matching(r, f, "devices"), axis_name="devices")(*halves)
    np.testing.assert_allclose(both, [expected] * 2, rtol=1e-5)


def test_top_k_keeps_the_best_of_all_devices_with_mean_weight_one():
    everyone = jnp.array([0.3, -1.0, 2.0, 0.1, 5.0, -3.0, 0.2, 1.0])
    for share, kept in ((1.0, 8), (0.5, 4), (0.26, 2), (0.01, 1)):
        weights = jax.jit(lambda share: jnp.concatenate([top_k(x, everyone, share) for x in jnp.split(everyone, 2)]))
        weights = np.asarray(weights(share))
        np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-6)
        assert set(np.flatnonzero(weights)) == set(np.argsort(everyone)[8 - kept :].tolist())
