"""Samples as a function of their seed and index, truncation, standing statistics, walks between samples."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxgan.core.errors import ConfigError
from jaxgan.models.layers import BaseGenerator, BatchNorm, spectral_norm
from jaxgan.sampling.generator import Generator, draw_latents
from jaxgan.sampling.interpolation import lerp, slerp
from jaxgan.sampling.statistics import batch_norm_moments, replace_moments
from tests.helpers import tiny_generator


@pytest.fixture(scope="module")
def plain():
    return tiny_generator("mlp")


@pytest.fixture(scope="module")
def styled():
    return tiny_generator("stylegan2", num_classes=10)


def test_an_image_depends_on_its_seed_and_index_alone(plain):
    images = plain.sample(70)
    assert images.shape == (70, 8, 8, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(plain.sample(5), images[:5])
    assert (plain.sample(5, seed=1) != images[:5]).any()
    smaller = dataclasses.replace(plain, batch_size=3)
    np.testing.assert_array_equal(smaller.sample(4), smaller.sample(6)[:4])
    np.testing.assert_allclose(smaller.latents(70)[0], plain.latents(70)[0], rtol=1e-5)
    np.testing.assert_allclose(smaller.sample(4).astype(int), images[:4].astype(int), atol=1)  # another program


def test_labels(plain, styled):
    labels = styled.labels(640, seed=3)
    np.testing.assert_array_equal(labels, styled.latents(640, seed=3)[1])
    np.testing.assert_allclose(np.bincount(labels), 64, atol=4 * 64**0.5)
    among = styled.labels(640, seed=3, among=[7, 7, 7, 2])
    np.testing.assert_allclose(np.bincount(among)[[2, 7]], [160, 480], atol=4 * 120**0.5)
    np.testing.assert_array_equal(plain.labels(3), 0)
    np.testing.assert_array_equal(styled.sample(3, labels=4), styled.sample(3, labels=[4, 4, 4]))


def test_errors_name_the_argument_and_what_would_be_right(plain, styled):
    for call, message in (
        (lambda: plain.sample(0), "n=0: must be a whole number in 1 .. 2147483647"),
        (lambda: plain.sample(3, labels=1), "labels=1: this generator is unconditional"),
        (lambda: styled.sample(3, labels=[1, 2]), r"labels=\[1, 2\]: give one, or 3"),
        (lambda: styled.sample(2, labels=[1, 10]), r"labels=\[1, 10\]: .*classes are 0 .. 9"),
        (lambda: styled.sample(2, labels=1.5), r"labels=1\.5: give integers"),
        (lambda: styled.sample(2, labels="a"), r"labels='a': give integers"),
        (lambda: styled.sample(2, labels=[[1], [1, 2]]), r"labels=\[\[1\], \[1, 2\]\]: give integers"),
        (lambda: styled.sample(64, labels=np.full(64, 10)), r"labels=\[10, 10, 10, 10, 10, 10, \.\.\.\]: give"),
        (lambda: plain.sample(2.5), r"n=2\.5: must be a whole number"),
        (lambda: plain.sample(True), "n=True: must be a whole number"),
        (lambda: plain.sample(1, seed=-1), r"seed=-1: must be a whole number in 0 \.\. 2147483647"),
        (lambda: plain.sample(1, seed=2**31), "seed=2147483648: must be a whole number"),
        (lambda: plain.labels(2.5), r"n=2\.5: must be a whole number"),
        (lambda: styled.class_columns(1.5, 2), r"rows=1\.5: must be a whole number"),
        (lambda: plain.interpolate(1, 0), "columns=0: must be a whole number"),
        (lambda: plain.with_standing_statistics(1, seed=-1), "seed=-1: must be a whole number"),
        (lambda: dataclasses.replace(plain, batch_size=0), "batch_size=0: must be a whole number"),
        (lambda: plain.interpolate(1, 2, space="w"), r"space='w': this generator has no styles"),
        (lambda: styled.interpolate(1, 2, space="x"), "space='x': choose z or w"),
        (lambda: plain.class_columns(2, 3), "is unconditional"),
        (lambda: styled.with_standing_statistics(), r"Generator\(stylegan2.*: has no batch norm"),
        (lambda: plain.with_standing_statistics(0), "batches=0: must be a whole number, 1 or above"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_bounded_latents_have_the_truncated_distribution(plain):
    """Its variance is 1 - 2 c density(c) / (2 cdf(c) - 1); labels and noise stay as they are without a bound."""
    z, _, _ = plain.latents(640, seed=3, bound=1.0)
    assert np.abs(z).max() <= 1.0
    variance = 1 - 2 * np.exp(-0.5) / np.sqrt(2 * np.pi) / 0.6826895
    np.testing.assert_allclose([z.mean(), z.var()], [0.0, variance], atol=0.02)  # of 10,240 draws
    np.testing.assert_array_equal(plain.latents(5, seed=3, bound=1.0)[0], z[:5])
    (_, labels, keys), (_, bounded_labels, bounded_keys) = plain.latents(9), plain.latents(9, bound=0.5)
    np.testing.assert_array_equal(labels, bounded_labels)
    np.testing.assert_array_equal(*map(jax.random.key_data, (keys, bounded_keys)))


def test_a_wide_bound_is_none(plain):
    np.testing.assert_allclose(plain.latents(64)[0], plain.latents(64, bound=30.0)[0], atol=1e-3)  # in the tails
    z, labels, keys = plain.latents(6, bound=0.4)
    np.testing.assert_array_equal(plain.sample(6, truncation=0.4), plain.generate(z, labels, keys))


def test_styles_move_to_their_mean(styled):
    free, none, half, mean = (styled.sample(8, labels=1, truncation=psi) for psi in (None, 1.0, 0.5, 0.0))
    np.testing.assert_array_equal(free, none)
    assert (mean == mean[:1]).all()  # all at the mean style, and noise has strength 0 at first
    spread = [x.astype(float).std(axis=0).mean() for x in (free, half, mean)]
    assert spread[0] > spread[1] > spread[2] == 0


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "a", True, 0.0])
def test_what_is_no_truncation(plain, styled, value):
    with pytest.raises(ValueError, match="truncation="):
        plain.sample(1, truncation=value)
    if value:
        with pytest.raises(ValueError, match="truncation="):
            styled.sample(1, truncation=value)


class Spectral(BaseGenerator):
    """Dense layers under spectral norm, whose vectors are in the same collection as the moments of batch norm."""

    @nn.compact
    def __call__(self, z, labels, train, keys=None):
        x = spectral_norm(nn.Dense(16, name="dense"), train)(z)
        x = nn.relu(BatchNorm(name="norm")(x, labels, train))
        x = spectral_norm(nn.Dense(self.image_size**2 * self.image_channels, name="pixels"), train)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm_pixels")(x)
        return x.reshape(-1, self.image_size, self.image_size, self.image_channels)


@pytest.fixture(scope="module")
def spectral():
    module = Spectral(image_size=4)
    variables = jax.jit(lambda: module.init(jax.random.key(0), np.zeros((1, 16)), np.zeros(1, int), train=False))()
    return Generator(module, variables, z_dim=16)


@jax.jit
def drawn(seed, index):
    return draw_latents(seed, 16, 0, index)


@pytest.mark.parametrize("model", ["plain", "spectral"])
def test_standing_statistics_are_means_over_batches(model, request):
    """Those of the first batch norm are computed from the weights; all of them do not depend on the old ones."""
    old = request.getfixturevalue(model)
    new = old.with_standing_statistics(batches=3, batch_size=8, seed=5)
    moments = batch_norm_moments(old.variables)
    shifted = replace_moments(old.variables, jax.tree.map(lambda x: np.asarray(x) + np.float32(7.0), moments))
    other = dataclasses.replace(old, variables=shifted).with_standing_statistics(3, 8, 5)
    for one, two in zip(jax.tree.leaves(new.variables), jax.tree.leaves(other.variables), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)

    zeros = replace_moments(old.variables, jax.tree.map(np.zeros_like, moments))
    train = jax.jit(lambda *batch: old.module.apply(zeros, *batch[:2], True, batch[2], mutable=["batch_stats"])[1])
    draws = [drawn(5, -1 - np.arange(8 * i, 8 * i + 8)) for i in range(3)]
    # Running statistics that began as 0 and have seen one batch hold a tenth of its moments.
    seen = (batch_norm_moments(jax.device_get(train(*batch))) for batch in draws)
    batches = [{path: value / 0.1 for path, value in moments.items()} for moments in seen]
    expected = jax.tree.map(lambda *x: np.mean(x, axis=0), *batches)
    for path, value in batch_norm_moments(new.variables).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-4, atol=1e-5, err_msg=str(path))
    if model == "plain":
        dense = old.variables["params"]["dense_0"]
        x = np.stack([np.asarray(z) for z, _, _ in draws]) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
        first = new.variables["batch_stats"]["norm_0"]["norm"]
        np.testing.assert_allclose(first["mean"], x.mean((0, 1)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(first["var"], x.var(1).mean(0), rtol=1e-4)
    # Parameters and spectral norm's vectors are the same arrays as before.
    before, after = (jax.tree_util.tree_leaves_with_path(g.variables) for g in (old, new))
    for (path, x), (_, y) in zip(before, after, strict=True):
        assert x is y or path[-1].key in ("mean", "var")


def test_standing_statistics_by_seed_and_device(plain):
    z, _, _ = plain.latents(64)
    assert not (np.asarray(drawn(0, -1 - np.arange(64))[0])[:, None] == z).all(-1).any()
    first = plain.with_standing_statistics(2, 4).sample(4)
    np.testing.assert_array_equal(plain.with_standing_statistics(2, 4).sample(4), first)
    assert (plain.with_standing_statistics(2, 4, seed=1).sample(4) != first).any()
    with jax.default_device(jax.devices()[1]):
        moved = dataclasses.replace(plain, variables=jax.device_put(plain.variables, jax.devices()[1]))
        again = moved.with_standing_statistics(2, 4)
        np.testing.assert_array_equal(again.sample(4), first)
    assert again.variables["batch_stats"]["norm_0"]["norm"]["mean"].devices() == {jax.devices()[1]}


def test_slerp_is_the_arc_on_the_sphere():
    """It keeps the norm, spends equal angles on equal steps, and stays in the plane of its ends; lerp is the chord."""
    random = np.random.default_rng(0)
    a, b = (x / np.linalg.norm(x) for x in random.normal(size=(2, 5)))
    t = np.linspace(0.0, 1.0, 9)[:, None]
    arc, chord = jax.device_get(jax.jit(lambda: (slerp(a, b, t), lerp(a, b, t)))())
    np.testing.assert_allclose(arc[[0, -1]], [a, b], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(arc, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose((arc[1:] * arc[:-1]).sum(1), np.cos(np.arccos(a @ b) / 8), rtol=1e-5)
    assert np.linalg.matrix_rank(np.vstack([arc, a, b]), tol=1e-5) == 2
    np.testing.assert_allclose(arc[4], (a + b) / np.linalg.norm(a + b), atol=1e-6)
    np.testing.assert_allclose(chord[4], (a + b) / 2, atol=1e-6)


def test_interpolation_of_latents_passes_through_samples(plain):
    z, labels, keys = plain.latents(4, seed=2)
    walk = plain.interpolate(2, 3, seed=2).reshape(2, 3, 8, 8, 3)
    ends = plain.generate(z, labels, keys).reshape(2, 2, 8, 8, 3)
    np.testing.assert_allclose(walk[:, [0, 2]].astype(int), ends.astype(int), atol=1)


def test_interpolation_of_styles_is_straight(styled):
    """Its ends are samples; the middle is made from the mean of their styles."""
    z, _, keys = styled.latents(4)
    walk = styled.interpolate(2, 3, labels=[1, 2], space="w").reshape(2, 3, 8, 8, 3)
    labels = np.array([1, 1, 2, 2])
    ends = styled.generate(z, labels, keys[np.array([0, 0, 2, 2])]).reshape(2, 2, 8, 8, 3)
    np.testing.assert_allclose(walk[:, [0, 2]].astype(int), ends.astype(int), atol=1)
    w = np.asarray(styled.styles(z, labels))
    middle = styled.generate((w[::2] + w[1::2]) / 2, labels[::2], keys[::2])
    np.testing.assert_allclose(walk[:, 1].astype(int), middle.astype(int), atol=1)
    mean = styled.interpolate(2, 3, truncation=0.0, space="w")
    assert (mean == mean[:1]).all()


def test_a_column_a_class(styled):
    np.testing.assert_array_equal(styled.class_columns(2, 3), [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(styled.class_columns(1, 12), [*range(10), 0, 1])
