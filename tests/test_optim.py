"""Optimizers in closed form; their scalars are schedules of images, and arguments of a program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.gan.optim import OPTIMIZERS, Optimizer, as_optimizer
from jaxgan.gan.recipe import recipe_from_config
from jaxgan.gan.schedules import Schedule, parse_schedule
from jaxgan.settings import default_config


@functools.partial(jax.jit, static_argnames="images_per_step")
def descend(optimizer, x, grads, images_per_step=100):
    """Returns x after each update by one of `grads`, [steps, ...]."""

    def step(carry, i):
        x, state = carry
        updates, state = optimizer.update(grads[i], state, x, i * images_per_step)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    return jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(len(grads)))[1]


def test_schedules_count_images_not_updates():
    """sgd on a constant gradient walks the sum of the learning rates, which are those of images 0, 100, 200, ..."""
    optimizer = Optimizer(optax.sgd, {"learning_rate": parse_schedule(1.0, "linear to 0 in 1 kimg", 9.0)})
    path = descend(optimizer, jnp.zeros(()), jnp.ones(10))
    np.testing.assert_allclose(path, -np.cumsum([1 - i / 10 for i in range(10)]), rtol=1e-6)


def test_scheduled_b2_against_adam_written_out():
    """PyTorch's when the betas of a group are changed: moments by the present b2, correction by 1 - b2^count too."""
    make, *_ = OPTIMIZERS["adam"]
    scalars = {
        "learning_rate": parse_schedule(0.1, "linear to 0.01 in 2 kimg", 9.0),
        "b1": Schedule(0.5),
        "b2": parse_schedule(0.9, "cosine to 0.99 in 1 kimg", 9.0),
        "eps": Schedule(1e-8),
    }
    grads = np.random.default_rng(0).normal(size=(15, 3))
    path = descend(Optimizer(make, scalars), jnp.zeros(3), jnp.float32(grads))
    x, mean, square = np.zeros(3), np.zeros(3), np.zeros(3)
    for i, grad in enumerate(grads):
        b2 = 0.9 + 0.09 * (0.5 - 0.5 * np.cos(np.pi * min(i / 10, 1)))
        mean, square = 0.5 * mean + 0.5 * grad, b2 * square + (1 - b2) * grad**2
        step = mean / (1 - 0.5 ** (i + 1)) / (np.sqrt(square / (1 - b2 ** (i + 1))) + 1e-8)
        x = x - (0.1 - 0.09 * i / 20) * step
        np.testing.assert_allclose(path[i], x, rtol=2e-4, atol=1e-6)


def optimizer_of(**changes) -> Optimizer:
    config = default_config()
    config.model.name, config.data.image_size = "mlp", 8
    config.optim_g.update(changes)
    return recipe_from_config(config).optimizer_g


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name):
    momentum = {"momentum": 0.5} if name in ("sgd", "rmsprop") else {}
    optimizer = optimizer_of(name=name, lr=0.1, b1=0.5, **momentum)
    x = jnp.array([3.0, -2.0])

    @jax.jit
    def step(x, state):
        updates, state = optimizer.update(2 * x, state, x, 0)
        return optax.apply_updates(x, updates), state

    state = optimizer.init(x)
    for _ in range(60):
        x, state = step(x, state)
    assert float(jnp.abs(x).max()) < 0.5


def test_a_scalar_that_is_off_is_not_there():
    assert set(optimizer_of(name="sgd").scalars) == {"learning_rate"}
    assert set(optimizer_of(name="adam", clip_norm=1.0).scalars) == {"learning_rate", "b1", "b2", "eps", "clip_norm"}


def test_clipping_bounds_the_global_norm():
    optimizer = optimizer_of(name="sgd", lr=1.0, clip_norm=0.5)
    grads = {"a": jnp.full(3, 4.0), "b": jnp.full(2, -4.0)}
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads, 0)
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-6)


def test_weight_decay_is_decoupled():
    """Without a gradient AdamW shrinks the weights by its rate times the decay."""
    optimizer = optimizer_of(name="adamw", lr=0.1, weight_decay=0.5)
    updates, _ = optimizer.update(jnp.zeros(2), optimizer.init(jnp.ones(2)), jnp.full(2, 4.0), 0)
    np.testing.assert_allclose(updates, -0.1 * 0.5 * 4.0, rtol=1e-6)


def test_optimizers_of_optax_keep_the_scalars_that_they_were_made_with():
    optimizer = as_optimizer(optax.sgd(0.25))
    assert optimizer.values(0) == {}
    assert as_optimizer(optimizer) is optimizer
    updates, _ = optimizer.update(jnp.ones(1), optimizer.init(jnp.ones(1)), jnp.ones(1), 0)
    np.testing.assert_array_equal(updates, -0.25)
