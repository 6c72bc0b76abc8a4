"""Losses: what each game means, closed forms, and extreme logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxgan.gan.losses import (
    LOSSES,
    class_cross_entropy,
    class_of_fakes,
    d2d_cross_entropy,
    discriminative_class_g,
    multi_hinge,
    top_k_weights,
)

REAL = np.array([-2.0, -0.3, 0.0, 0.7, 3.0])
FAKE = np.array([1.5, -1.1, 0.0, 0.2, -4.0])

# The definitions by probabilities, as the papers have them, of what is written as softplus here.
PROBABILITIES = {
    "minimax": (lambda r, f: -np.log(expit(r)) - np.log(1 - expit(f)), lambda r, f: np.log(1 - expit(f))),
    "ns": (lambda r, f: -np.log(expit(r)) - np.log(1 - expit(f)), lambda r, f: -np.log(expit(f))),
    "rpgan": (lambda r, f: -np.log(expit(r - f)), lambda r, f: -np.log(expit(f - r))),
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_logarithms_of_probabilities(name):
    for ours, formula in zip((LOSSES[name].d, LOSSES[name].g), PROBABILITIES[name], strict=True):
        value = ours(jnp.float32(REAL), jnp.float32(FAKE))
        np.testing.assert_allclose(value, formula(REAL, FAKE), rtol=2e-6, atol=1e-6)


# D minimises its side by pointwise choice of two logits for densities p of reals and q of fakes at one place; each
# game has its optimum at a known one, and G's value there is known.
OPTIMA = {
    "minimax": lambda p, q: np.log(p / q),
    "ns": lambda p, q: np.log(p / q),
    "hinge": lambda p, q: np.sign(p - q),
    "lsgan": lambda p, q: p / (p + q),
}


@pytest.mark.parametrize("name", OPTIMA)
@pytest.mark.parametrize(("p", "q"), [(0.3, 0.6), (0.8, 0.1)])
def test_optimal_discriminator(name, p, q):
    """The logit that minimises p d(real) + q d(fake), among many (Goodfellow et al. 2014, proposition 1, and alike)."""
    logits = np.linspace(-4, 4, 8001, dtype=np.float32)
    far = jnp.full_like(logits, 1e3)  # where the other side is content, or has a constant
    value = p * LOSSES[name].d(logits, -far * (name != "lsgan")) + q * LOSSES[name].d(far * (name != "lsgan"), logits)
    np.testing.assert_allclose(logits[np.argmin(value)], OPTIMA[name](p, q), atol=5e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_g_wants_higher_logits_and_d_tells_the_sides_apart(name):
    loss = LOSSES[name]
    for logit in (0.1, 0.5, 0.9):  # between what lsgan wants of either side
        by_real, by_fake = jax.grad(lambda r, f: loss.d(r, f), argnums=(0, 1))(logit, logit)
        assert by_real < 0 < by_fake
        assert jax.grad(lambda f, logit=logit: loss.g(logit, f))(logit) < 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("real", [-1e4, 1e4])
@pytest.mark.parametrize("fake", [-1e4, 1e4])
def test_extreme_logits_have_finite_values_and_gradients(name, real, fake):
    for side in (LOSSES[name].d, LOSSES[name].g):
        value, grads = jax.value_and_grad(lambda r, f, side=side: side(r, f), argnums=(0, 1))(real, fake)
        assert np.isfinite(value)
        assert np.isfinite(grads).all()


def test_undecided_discriminator():
    zero = jnp.zeros(3)
    np.testing.assert_allclose(LOSSES["ns"].d(zero, zero), 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(LOSSES["rpgan"].d(zero + 5, zero + 5), np.log(2), rtol=1e-6)


def test_g_needs_no_reals_unless_the_loss_is_relativistic():
    for loss in LOSSES.values():
        if not loss.relativistic:
            assert np.isfinite(loss.g(None, jnp.float32(FAKE))).all()


@pytest.mark.parametrize("name", ["rpgan", "wgan"])
def test_games_of_differences_ignore_a_shift(name):
    r, f, loss = jnp.float32(REAL), jnp.float32(FAKE), LOSSES[name]
    np.testing.assert_allclose(loss.d(r + 7, f + 7), loss.d(r, f), rtol=1e-5)
    assert loss.decision_threshold is None


def test_relativistic_game_is_symmetric():
    r, f = jnp.float32(REAL), jnp.float32(FAKE)
    np.testing.assert_array_equal(LOSSES["rpgan"].g(r, f), LOSSES["rpgan"].d(f, r))


def test_minimax_saturates_where_non_saturating_does_not():
    """A discriminator that is sure of a fake leaves minimax without gradient (Goodfellow et al. 2014, section 3)."""
    slope = {n: float(jax.grad(lambda f, n=n: LOSSES[n].g(0.0, f))(-20.0)) for n in ("minimax", "ns")}
    assert abs(slope["minimax"]) < 1e-8
    assert slope["ns"] == pytest.approx(-1.0)


def test_class_cross_entropy_of_an_undecided_classifier_is_log_k():
    labels = jnp.array([0, 3, 6])
    np.testing.assert_allclose(class_cross_entropy(jnp.full((3, 7), 5.0), labels), np.log(7), rtol=1e-6)
    sure = 1e4 * jax.nn.one_hot(labels, 7)
    np.testing.assert_array_equal(class_cross_entropy(sure, labels), 0.0)
    np.testing.assert_allclose(class_cross_entropy(sure, (labels + 1) % 7), 1e4)


def test_discriminative_classifier_measures_the_divergence_of_joint_distributions():
    """Of five images in three classes, D's best classifier knows both distributions; G's loss is KL(fakes || reals)."""
    rng = np.random.default_rng(0)
    real, fake = (p / p.sum() for p in rng.uniform(0.1, 1.0, (2, 5, 3)))
    image, label = (x.ravel() for x in np.indices((5, 3)))
    logits = jnp.log(jnp.concatenate([real, fake], axis=1))[image]
    losses = discriminative_class_g(logits, jnp.asarray(label))
    divergence = np.sum(fake * np.log(fake / real))
    np.testing.assert_allclose(np.sum(fake.ravel() * losses), divergence, rtol=1e-5)
    # The same classifier is where the loss of D has no slope: it is the posterior of class and origin.
    d_loss = lambda x: jnp.sum(  # noqa: E731
        real.ravel() * class_cross_entropy(x[image], label) + fake.ravel() * class_of_fakes(x[image], label)
    )
    slope = jax.grad(d_loss)(jnp.log(jnp.concatenate([real, fake], axis=1)))
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)


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


def test_top_k_keeps_the_best_of_all_devices_with_mean_weight_one():
    everyone = jnp.array([0.3, -1.0, 2.0, 0.1, 5.0, -3.0, 0.2, 1.0])
    halves = jnp.split(everyone, 2)
    weigh = jax.jit(lambda fraction: jnp.concatenate([top_k_weights(x, everyone, fraction) for x in halves]))
    for fraction, kept in ((1.0, 8), (0.5, 4), (0.26, 2), (0.01, 1)):
        weights = np.asarray(weigh(fraction))
        np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-6)
        assert set(np.flatnonzero(weights)) == set(np.argsort(everyone)[8 - kept :].tolist())
