"""Inversion: the descent, the distance, and images of a generator that are found again."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.sampling.inversion import image_distance, invert, minimise
from tests.helpers import tiny_generator


def test_descent_to_the_foot_of_a_parabola():
    target = jnp.arange(6.0).reshape(2, 3)
    found = minimise(lambda x: jnp.sum(jnp.square(x - target), axis=1), jnp.zeros((2, 3)), 300, 0.1)
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
