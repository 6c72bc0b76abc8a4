"""Schedules, optimizers and the moving average in closed form."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import ema, optim
from jaxgan.config import default_config


def settings(**changes):
    section = default_config().optim_g
    section.update(changes)
    return section


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("constant", [2.0, 2.0, 2.0, 2.0]), ("linear", [2.0, 1.5, 1.0, 1.0]), ("cosine", [2.0, 1.5, 1.0, 1.0])],
)
def test_schedule(kind, expected):
    value = optim.schedule(kind, 2.0, 1.0, over=1000.0)
    np.testing.assert_allclose([value(s) for s in (0, 500, 1000, 5000)], expected, rtol=1e-6)


def test_cosine_quarter():
    value = optim.schedule("cosine", 1.0, 0.0, over=1000.0)
    np.testing.assert_allclose(value(250), 0.5 + 0.5 * np.cos(np.pi / 4), rtol=1e-6)


def test_warmup_then_decay_over_what_is_left():
    lr = optim.learning_rate(settings(lr=1.0, schedule="linear", warmup_kimg=1.0), train_kimg=5.0)
    np.testing.assert_allclose([lr(s) for s in (0, 500, 1000, 3000, 5000)], [0, 0.5, 1, 0.5, 0], atol=1e-6)


def test_schedule_counts_images_not_updates():
    """sgd on a constant gradient walks the sum of the learning rates, which are those of images 0, 100, 200, ..."""
    section = settings(name="sgd", lr=1.0, schedule="linear", decay_kimg=1.0)
    tx = optim.make_optimizer(section, train_kimg=1.0, images_per_update=100)
    params, state = jnp.zeros(()), tx.init(jnp.zeros(()))
    for _ in range(10):
        updates, state = tx.update(jnp.ones(()), state)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, -sum(1 - i / 10 for i in range(10)), rtol=1e-6)


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
