"""Semantic directions: the closed form, the layers that latents enter, traversals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import MODELS
from jaxgan.sampling.directions import sefa, semantic_directions, traverse
from jaxgan.sampling.generator import Generator
from tests.helpers import tiny_generator


def drawn_generator(name: str) -> Generator:
    """Returns a generator of ten classes whose weights numpy draws: its own initial values take long to compile."""
    module = MODELS[name][0](image_size=16, num_classes=10, channels=(16, 16, 16))
    z, labels, keys = jnp.zeros((1, 16)), jnp.zeros(1, jnp.int32), jax.random.split(jax.random.key(0), 1)
    shapes = jax.eval_shape(lambda: module.init(keys[0], z, labels, train=False, keys=keys))
    draw = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    return Generator(module, variables, z_dim=16)


def test_sefa_is_the_singular_value_decomposition():
    weight = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    directions, strengths = sefa(weight, 5)
    _, values, vectors = np.linalg.svd(weight)
    np.testing.assert_allclose(strengths, values[:5], rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(directions * vectors[:5], axis=1)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(directions @ directions.T, np.eye(5), atol=1e-5)
    assert (directions.max(axis=1) == np.abs(directions).max(axis=1)).all()
    for k in (0, 13, 2.5):
        with pytest.raises(ValueError, match=f"k={k}: latents of 12 numbers have 1 .. 12"):
            sefa(weight, k)


@pytest.mark.parametrize("model", ["dcgan", "r3gan"])
def test_a_direction_moves_the_first_layer_by_its_strength(model):
    net = drawn_generator(model)
    directions, strengths = semantic_directions(net, 3)
    kernel = net.variables["params"]["dense"]["kernel"][:16]  # r3gan has rows of the class too
    np.testing.assert_allclose(np.linalg.norm(2.5 * directions @ kernel, axis=1), 2.5 * strengths, rtol=1e-4)
    np.testing.assert_allclose(strengths, np.linalg.svd(kernel)[1][:3], rtol=1e-4)


def test_directions_under_spectral_norm_in_chunks():
    """BigGAN's layers are normalised and see a chunk of z each, so that a direction is in one chunk only."""
    net = drawn_generator("biggan")
    directions, strengths = semantic_directions(net, 16)
    first = net.variables["params"]["dense"]["kernel"]  # of z's first 6 numbers
    u = net.variables["batch_stats"]["sn_dense"]["dense/kernel/u"]
    v = u @ first.T / np.linalg.norm(u @ first.T)
    sigma = np.linalg.norm(v @ first)  # after one step of power iteration
    inside = np.abs(directions[:, :6]).sum(axis=1) > 1e-4
    np.testing.assert_allclose(np.abs(directions[inside, 6:]), 0.0, atol=1e-4)
    np.testing.assert_allclose(strengths[inside], np.linalg.svd(first / sigma)[1], rtol=1e-3)


def test_directions_of_styles_are_those_of_all_affine_layers():
    net = tiny_generator("stylegan2")
    blocks = net.variables["params"]["synthesis_net"]
    used = {"conv_0b": 0, "conv_1a": 1, "conv_1b": 2, "to_rgb_0": 1, "to_rgb_1": 3}  # the style that each follows
    weights = {name: blocks[name]["style"]["kernel"].T / 4.0 for name in used}  # over the root of w_dim = 16
    for layers in (None, [1, 2]):
        chosen = [w for name, w in weights.items() if layers is None or used[name] in layers]
        _, strengths = semantic_directions(net, 4, layers)
        np.testing.assert_allclose(strengths, np.linalg.svd(np.concatenate(chosen))[1][:4], rtol=1e-4)


@pytest.mark.parametrize("model", ["mlp", "stylegan2"])
def test_traversals_pass_through_the_sample(model):
    net = tiny_generator(model)
    directions, _ = semantic_directions(net, 2)
    images = traverse(net, directions, 3, extent=20.0, seed=4).reshape(2, 3, 8, 8, 3)
    middle = net.sample(1, seed=4).astype(int)
    np.testing.assert_allclose(images[:, 1].astype(int), np.concatenate([middle, middle]), atol=1)
    assert (images[:, 0] != images[:, 2]).any(axis=(1, 2, 3)).all()
    if model == "mlp":
        z, label, key = net.latents(1, seed=4)
        ends = net.generate(z[0] + 20.0 * directions, *(jnp.repeat(x, 2) for x in (label, key)))
        np.testing.assert_allclose(images[:, 2].astype(int), ends.astype(int), atol=1)


def test_what_has_no_directions():
    net = tiny_generator("mlp")

    class Unknown(type(net.module)):
        latent_layers = None

    with pytest.raises(ValueError, match="has no latent_layers"):
        semantic_directions(dataclasses.replace(net, module=Unknown(image_size=8, channels=(16, 16))), 1)
    with pytest.raises(ValueError, match=r"layers=\[0\]: this generator has no styles"):
        semantic_directions(net, 1, layers=[0])
    for layer in (4, 1.5):
        with pytest.raises(ValueError, match=rf"layers=\[{layer}\]: styles are 0 .. 3"):
            semantic_directions(tiny_generator("stylegan2"), 1, layers=[layer])
    for changes, message in (
        (dict(columns=0), "^columns=0: must be a whole number, 1 or above$"),
        (dict(columns=2, extent=float("nan")), "^extent=nan: must be a finite number$"),
    ):
        with pytest.raises(ValueError, match=message):
            traverse(net, np.ones((1, 16)), **changes)
