"""Optimizers and the moving average in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.gan import ema, optim
from jaxgan.settings import default_config


def settings(**changes):
    section = default_config().optim_g
    section.update(changes)
    return section


def test_schedule_counts_images_not_updates():
    """sgd on a constant gradient walks the sum of the learning rates, which are those of images 0, 100, 200, ..."""
    section = settings(name="sgd", lr=1.0, lr_schedule="linear to 0 in 1 kimg")
    tx = optim.make_optimizer(section, train_kimg=1.0, images_per_update=100)
    params, state = jnp.zeros(()), tx.init(jnp.zeros(()))
    for _ in range(10):
        updates, state = tx.update(jnp.ones(()), state)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, -sum(1 - i / 10 for i in range(10)), rtol=1e-6)


def test_scheduled_b2_against_adam_written_out():
    """PyTorch's when the betas of a group are changed: moments by the present b2, correction by 1 - b2^count too."""
    section = settings(lr=0.1, b1=0.5, b2=0.9, b2_schedule="cosine to 0.99 in 1 kimg", lr_schedule="linear to 0.01")
    tx = optim.make_optimizer(section, train_kimg=2.0, images_per_update=100)
    grads = np.random.default_rng(0).normal(size=(15, 3))
    x, state = jnp.zeros(3), tx.init(jnp.zeros(3))
    expected, mean, square = np.zeros(3), np.zeros(3), np.zeros(3)
    for i, grad in enumerate(grads):
        updates, state = tx.update(jnp.float32(grad), state, x)
        x = optax.apply_updates(x, updates)
        b2 = 0.9 + 0.09 * (0.5 - 0.5 * np.cos(np.pi * min(i / 10, 1)))
        mean, square = 0.5 * mean + 0.5 * grad, b2 * square + (1 - b2) * grad**2
        step = mean / (1 - 0.5 ** (i + 1)) / (np.sqrt(square / (1 - b2 ** (i + 1))) + 1e-8)
        expected -= (0.1 - 0.09 * i / 20) * step
        np.testing.assert_allclose(x, expected, rtol=2e-4, atol=1e-6)


def test_only_a_scheduled_b2_changes_the_state():
    """Checkpoints of runs without one stay as they were: those of optax's own adam."""
    trees = [
        jax.tree.structure(optim.make_optimizer(settings(b2_schedule=text), 1.0, 1).init(jnp.zeros(3)))
        for text in ("constant", "linear to 0.99")
    ]
    plain = jax.tree.structure(optax.adam(lambda count: 0.1).init(jnp.zeros(3)))
    assert trees[0] == plain != trees[1]


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_every_optimizer_descends(name):
    section = settings(name=name, lr=0.1, b1=0.5, momentum=0.5)
    tx = optim.make_optimizer(section, 1.0, 1)
    x = jnp.array([3.0, -2.0])
    state = tx.init(x)
    for _ in range(60):
        updates, state = tx.update(2 * x, state, x)
        x = optax.apply_updates(x, updates)
    assert float(jnp.abs(x).max()) < 0.5


def test_clipping_bounds_the_global_norm():
    tx = optim.make_optimizer(settings(name="sgd", lr=1.0, clip_norm=0.5), 1.0, 1)
    grads = {"a": jnp.full(3, 4.0), "b": jnp.full(2, -4.0)}
    updates, _ = tx.update(grads, tx.init(grads))
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-6)


def test_ema_half_life():
    """After a half-life the old value weighs one half, at any batch size."""
    for batch in (10, 100):
        average = jnp.ones(())
        for step in range(1000 // batch):
            average = ema.update(average, jnp.zeros(()), ema.decay((step + 1) * batch, batch, 1000.0, 0.0))
        np.testing.assert_allclose(average, 0.5, rtol=1e-5)


def test_ema_ramp_and_off():
    np.testing.assert_allclose(ema.decay(2000.0, 50, 1000.0, 0.05), 0.5 ** (50 / 100), rtol=1e-6)
    np.testing.assert_allclose(ema.decay(1e6, 50, 1000.0, 0.05), 0.5 ** (50 / 1000), rtol=1e-6)
    assert float(ema.update(jnp.float32(3.0), jnp.float32(8.0), ema.decay(1e6, 50, 0.0, 0.05))) == 8.0
