"""Inversion: the descent, the distance, and images of a generator that are found again."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.sampling.inversion import approach, descend, image_distance, invert, pyramid
from tests.helpers import tiny_generator


def test_descent_to_the_foot_of_a_parabola():
    target = jnp.arange(6.0).reshape(2, 3)
    optimizer, found = optax.adam(optax.cosine_decay_schedule(0.1, 300)), jnp.zeros((2, 3))
    step = jax.jit(functools.partial(descend, lambda x: jnp.sum(jnp.square(x - target), axis=1), optimizer))
    state = optimizer.init(found)
    for _ in range(300):
        found, state = step(found, state)
    np.testing.assert_allclose(found, target, atol=1e-2)


def test_distance_of_images():
    black, white = -jnp.ones((1, 4, 4, 3)), jnp.ones((1, 4, 4, 3))
    assert image_distance(black, white) == 4.0
    assert image_distance(black, white, lambda x: x.mean((1, 2)) + 3.0) == 4.0 + (2 / 4) ** 2
    assert image_distance(white, white[0]) == 0.0


@pytest.mark.parametrize("model", ["mlp", pytest.param("stylegan2", marks=pytest.mark.slow)])
def test_an_image_of_the_generator_is_found_again(model):
    label = 3 if model == "stylegan2" else None
    net = tiny_generator(model, num_classes=10 if label else 0)
    images = net.sample(2, seed=9, labels=label)
    candidates = net.sample(64, labels=label)
    nearest = np.mean(np.square((candidates[:, None] - images.astype(float)) / 127.5), axis=(2, 3, 4)).min(axis=0)
    found = invert(net, images, steps=300, labels=label)
    assert (found.distances < nearest / 10).all()
    np.testing.assert_array_equal(net.generate(found.latents, found.labels, found.keys), found.images)
    if label:
        assert found.latents.shape == (2, 4, 16)
        np.testing.assert_allclose(found.latents, found.latents[:, :1].repeat(4, axis=1), atol=1e-5)
        assert set(found.labels) == {3}


def test_images_are_compared_by_features_too():
    net = tiny_generator("mlp")
    images = net.sample(1, seed=9)
    # Proportional to the bytes, so that the expected distance can be computed from what is shown.
    found = invert(net, images, steps=0, features=lambda x: (x[:, ::4, ::4] + 1.0).reshape(len(x), -1))
    pixels = np.mean(np.square(found.images / 127.5 - images / 127.5))
    made, wanted = (x[:, ::4, ::4].astype(float) for x in (found.images, images))
    expected = pixels + np.square(made - wanted).sum() / np.square(wanted).sum()
    np.testing.assert_allclose(found.distances, [expected], rtol=0.02)


def test_an_image_comes_nearer_and_whoever_has_seen_enough_may_stop():
    net = tiny_generator("mlp")
    (image,) = net.sample(1, seed=9)
    options = dict(steps=200, features=pyramid, seed=3)
    steps, found = zip(*approach(net, image, every=60, **options))
    assert steps == (0, 60, 120, 180, 200)
    distances = np.concatenate([one.distances for one in found])
    assert distances[-1] < distances[0] / 20
    assert (np.diff(distances) < 0).all()
    (*_, again) = invert(net, image[None], **options)
    np.testing.assert_array_equal(again, distances[-1:])
    _, (_, stopped) = itertools.islice(approach(net, image, every=60, **options), 2)
    np.testing.assert_array_equal(stopped.images, found[1].images)


def test_a_pyramid_holds_the_image_and_weighs_its_levels_alike():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 6, 1)), jnp.float32)
    levels = pyramid(images)
    assert levels.shape == (2, 8 * 6 + 4 * 3)
    coarse = levels[:, 48:].reshape(2, 4, 3, 1) / 2
    fine = levels[:, :48].reshape(2, 8, 6, 1)
    np.testing.assert_allclose(fine + coarse.repeat(2, 1).repeat(2, 2), images[:, :8], atol=1e-6)
    np.testing.assert_allclose(jnp.square(pyramid(jnp.ones((1, 8, 8, 1)))).sum(), 64, rtol=1e-6)  # as in its pixels


def test_what_cannot_be_inverted():
    net = tiny_generator("mlp")
    black = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"images=.*: give uint8 \[n, 8, 8, 3\]"):
        invert(net, np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="unconditional"):
        invert(net, black, labels=1)
    for changes, message in (
        (dict(starts=65), r"^starts=65: must be a whole number in 1 \.\. 64$"),
        (dict(starts=1.5), r"^starts=1\.5: must be a whole number"),
        (dict(steps=2.5), r"^steps=2\.5: must be a whole number, 0 or above$"),
        (dict(learning_rate="a"), "^learning_rate='a': must be a finite number, 0 or above$"),
    ):
        with pytest.raises(ValueError, match=message):
            invert(net, black, **changes)
