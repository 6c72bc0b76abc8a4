"""Semantic directions and projections."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.evaluation.networks import Extractor
from jaxgan.sampling import latents
from tests.test_generator import generator


def test_sefa_is_the_singular_value_decomposition():
    weight = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    along, strengths = latents.sefa(weight, 5)
    _, values, vectors = np.linalg.svd(weight)
    np.testing.assert_allclose(strengths, values[:5], rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(along * vectors[:5], axis=1)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(along @ along.T, np.eye(5), atol=1e-5)
    assert (along.max(axis=1) == np.abs(along).max(axis=1)).all()
    for k in (0, 13):
        with pytest.raises(ValueError, match=f"{k} directions: latents of 12 numbers have 1 .. 12"):
            latents.sefa(weight, k)


@pytest.mark.parametrize("model", ["dcgan", "sngan", "r3gan"])
def test_a_direction_moves_the_first_layer_by_its_strength(model):
    net = generator(model, size=16, **{"model.conditional": True})
    along, strengths = latents.directions(net, 3)
    kernel = net.variables["params"]["dense"]["kernel"][:16]  # r3gan has rows of the class too
    np.testing.assert_allclose(np.linalg.norm(2.5 * along @ kernel, axis=1), 2.5 * strengths, rtol=1e-4)
    np.testing.assert_allclose(strengths, np.linalg.svd(kernel)[1][:3], rtol=1e-4)


def test_directions_under_spectral_norm_in_chunks():
    """BigGAN's layers are normalised and see a chunk of z each, so that a direction is in one chunk only."""
    net = generator("biggan", size=16, **{"model.conditional": True})
    along, strengths = latents.directions(net, 16)
    first = net.variables["params"]["dense"]["kernel"]  # of z's first 6 numbers
    u = net.variables["batch_stats"]["sn_dense"]["dense/kernel/u"]
    v = u @ first.T / np.linalg.norm(u @ first.T)
    sigma = np.linalg.norm(v @ first)  # after one step of power iteration
    inside = np.abs(along[:, :6]).sum(axis=1) > 1e-4
    np.testing.assert_allclose(np.abs(along[inside, 6:]), 0.0, atol=1e-4)
    np.testing.assert_allclose(strengths[inside], np.linalg.svd(first / sigma)[1], rtol=1e-3)


def test_directions_of_styles_are_those_of_all_affine_layers():
    net = generator("stylegan2")
    blocks = net.variables["params"]["synthesis_net"]
    used = {"conv_0b": 0, "conv_1a": 1, "conv_1b": 2, "to_rgb_0": 1, "to_rgb_1": 3}  # the style that each follows
    weights = {name: blocks[name]["style"]["kernel"].T / 4.0 for name in used}  # over the root of w_dim = 16
    for layers in (None, [1, 2]):
        chosen = [w for name, w in weights.items() if layers is None or used[name] in layers]
        _, strengths = latents.directions(net, 4, layers)
        np.testing.assert_allclose(strengths, np.linalg.svd(np.concatenate(chosen))[1][:4], rtol=1e-4)


@pytest.mark.parametrize("model", ["mlp", "stylegan2"])
def test_walks_pass_through_the_sample(model):
    net = generator(model)
    along, _ = latents.directions(net, 2)
    images = latents.walk(net, along, 3, extent=20.0, seed=4).reshape(2, 3, 8, 8, 3)
    middle = net.sample(1, seed=4).astype(int)
    np.testing.assert_allclose(images[:, 1].astype(int), np.concatenate([middle, middle]), atol=1)
    assert (images[:, 0] != images[:, 2]).any(axis=(1, 2, 3)).all()
    points = net.latents(1, seed=4)[0][0] + 20.0 * along
    if model == "mlp":
        _, label, key = net.latents(1, seed=4)
        ends = net.decode(points, *(jnp.repeat(x, 2) for x in (label, key)))
        np.testing.assert_allclose(images[:, 2].astype(int), ends.astype(int), atol=1)


def test_what_has_no_directions():
    with pytest.raises(ValueError, match="semantic directions of r3gan2: known for mlp, dcgan"):
        latents.directions(generator("r3gan2"), 1)
    with pytest.raises(ValueError, match="layers: this generator has no styles"):
        latents.directions(generator("mlp"), 1, layers=[0])
    with pytest.raises(ValueError, match=r"layers=\[4\]: styles are 0 .. 3"):
        latents.directions(generator("stylegan2"), 1, layers=[4])


def test_descent_to_the_foot_of_a_parabola():
    target = jnp.arange(6.0).reshape(2, 3)
    found = latents.descend(lambda x: jnp.sum(jnp.square(x - target), axis=1), jnp.zeros((2, 3)), 300, 0.1)
    np.testing.assert_allclose(found, target, atol=1e-2)


def test_distance_of_images():
    black, white = -jnp.ones((1, 4, 4, 3)), jnp.ones((1, 4, 4, 3))
    assert latents.image_distance(black, white) == 4.0
    assert latents.image_distance(black, white, lambda x: x.mean((1, 2)) + 3.0) == 4.0 + (2 / 4) ** 2
    assert latents.image_distance(white, white[0]) == 0.0


@pytest.mark.parametrize("model", ["mlp", "stylegan2"])
def test_an_image_of_the_generator_is_found_again(model):
    net = generator(model, **{"model.conditional": model == "stylegan2"})
    label = 3 if model == "stylegan2" else None
    images = net.sample(2, seed=9, labels=label)
    start = latents.project(net, images, steps=0, labels=label)
    found = latents.project(net, images, steps=300, labels=label)
    assert (found.distances < start.distances / 10).all()
    np.testing.assert_array_equal(net.decode(found.latents, found.labels, found.keys), found.images)
    if model == "stylegan2":
        assert found.latents.shape == (2, 4, 16)
        np.testing.assert_allclose(found.latents, found.latents[:, :1].repeat(4, axis=1), atol=1e-5)
        assert set(found.labels) == {3}


def test_colour_images_of_32_pixels_are_compared_by_features_too(monkeypatch):
    def apply(gain, images):
        return {"pool": gain * images[:, ::4, ::4].reshape(len(images), -1)}

    monkeypatch.setattr(latents.cifar, "load", lambda: Extractor("stand-in", apply, jnp.float32(3.0), "", ""))
    net = generator("mlp", size=32)
    images = net.sample(1, seed=9)
    found = latents.project(net, images, steps=0)
    pixels = np.mean(np.square(found.images / 127.5 - images / 127.5))
    made, wanted = (x[:, ::4, ::4].astype(float) for x in (found.images, images))
    expected = pixels + np.square(made - wanted).sum() / np.square(wanted).sum()
    np.testing.assert_allclose(found.distances, [expected], rtol=0.02)


def test_images_that_do_not_fit():
    net = generator("mlp")
    with pytest.raises(ValueError, match=r"give uint8 \[n, 8, 8, 3\]"):
        latents.project(net, np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="unconditional"):
        latents.project(net, np.zeros((1, 8, 8, 3), np.uint8), labels=1)
