"""Penalties of critics whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.gan.penalties import consistency, dragan, gradient_penalty, lecam, squared_gradient_norm

SHAPE = (5, 4, 4, 3)
IMAGES = jax.random.normal(jax.random.key(0), SHAPE)
WEIGHT = jax.random.normal(jax.random.key(1), SHAPE[1:])


def linear(scale=1.0):
    return lambda x: scale * jnp.sum(x * WEIGHT, axis=(1, 2, 3))


def test_linear_critic_has_its_weight_norm():
    expected = np.full(5, np.sum(np.square(WEIGHT)))
    np.testing.assert_allclose(squared_gradient_norm(linear(), IMAGES), expected, rtol=1e-5)


def test_quadratic_critic():
    def critic(x):
        return 0.5 * jnp.sum(jnp.square(x), axis=(1, 2, 3))

    expected = jnp.sum(jnp.square(IMAGES), axis=(1, 2, 3))
    np.testing.assert_allclose(squared_gradient_norm(critic, IMAGES), expected, rtol=1e-5)
    # Interpolates of x and -x are (2 mix - 1) x, and so is the gradient there.
    mix = jnp.linspace(0.1, 0.9, 5)
    norm = jnp.abs(2 * mix - 1) * jnp.sqrt(expected)
    np.testing.assert_allclose(gradient_penalty(critic, IMAGES, -IMAGES, mix), jnp.square(norm - 1), rtol=1e-4)


def test_gradient_penalty_is_zero_for_a_critic_of_slope_one():
    scale = 1.0 / np.sqrt(np.sum(np.square(WEIGHT)))
    value = gradient_penalty(linear(scale), IMAGES, IMAGES[::-1], jnp.linspace(0, 1, 5))
    np.testing.assert_allclose(value, 0.0, atol=1e-10)


def test_derivatives_with_respect_to_the_critic():
    """d/ds |s w|^2 = 2 s |w|^2; and a flat critic has value 1 and gradient 0, not NaN."""
    squared = float(np.sum(np.square(WEIGHT)))
    slope = jax.grad(lambda s: jnp.mean(squared_gradient_norm(linear(s), IMAGES)))(3.0)
    np.testing.assert_allclose(slope, 6 * squared, rtol=1e-5)
    mix = jnp.full(5, 0.5)
    value, slope = jax.value_and_grad(lambda s: jnp.mean(gradient_penalty(linear(s), IMAGES, IMAGES, mix)))(0.0)
    assert value == 1.0
    assert slope == 0.0


def test_dragan_of_a_linear_and_of_a_quadratic_critic():
    noise = jax.random.uniform(jax.random.key(2), SHAPE)
    mix = jax.random.uniform(jax.random.key(3), (5,))
    expected = np.full(5, (np.linalg.norm(WEIGHT) - 1) ** 2)
    np.testing.assert_allclose(dragan(linear(), IMAGES, noise, mix), expected, rtol=1e-5)
    # The quadratic critic's gradient is the place: mix of the image, the rest of the disturbed one.
    x, noise, share = np.asarray(IMAGES), np.asarray(noise), np.asarray(mix).reshape(-1, 1, 1, 1)
    place = x + share * 0.5 * x.std(axis=(1, 2, 3), keepdims=True) * noise
    norms = np.sqrt(np.square(place).sum(axis=(1, 2, 3)))
    value = dragan(lambda x: 0.5 * jnp.sum(jnp.square(x), axis=(1, 2, 3)), IMAGES, noise, mix)
    np.testing.assert_allclose(value, (norms - 1) ** 2, rtol=1e-4)


def test_consistency_of_a_linear_critic():
    shift = jnp.roll(IMAGES, 1, axis=1)
    value = consistency(linear(), linear()(IMAGES), shift)
    np.testing.assert_allclose(value, np.square(np.sum((IMAGES - shift) * WEIGHT, (1, 2, 3))), rtol=1e-3)
    np.testing.assert_allclose(consistency(linear(), linear()(IMAGES), IMAGES), 0.0)


def test_lecam_is_least_where_the_logits_are_the_other_sides_average():
    real, fake = jnp.array([1.0, 3.0]), jnp.array([-2.0, 0.5])
    np.testing.assert_allclose(lecam(real, fake, 0.5, -1.0), [4.0 + 6.25, 16.0 + 0.0])
    grads = jax.grad(lambda r, f: jnp.sum(lecam(r, f, 0.5, -1.0)), (0, 1))(jnp.full(2, -1.0), jnp.full(2, 0.5))
    np.testing.assert_allclose(grads, 0.0)
