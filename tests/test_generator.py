"""Truncation of latents and of styles, standing statistics, walks between samples."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxgan.gan.state import create_state, make_nets
from jaxgan.sampling.generator import Generator, draw, running_moments
from tests.test_update import KEY, tiny


def generator(model, size=8, **changes):
    config = tiny(model=model, **{"data.image_size": size}, **changes)
    return Generator(config, jax.jit(lambda: create_state(make_nets(config), KEY).ema)(), 0)


def with_stats(old, moments):
    """The generator with other running statistics."""
    stats = traverse_util.flatten_dict(old.variables["batch_stats"]) | moments
    return Generator(old.config, old.variables | {"batch_stats": traverse_util.unflatten_dict(stats)}, 0)


@pytest.fixture(scope="module")
def plain():
    return generator("mlp")


@pytest.fixture(scope="module")
def styled():
    return generator("stylegan2", **{"model.conditional": True})


def test_bounded_latents_have_the_truncated_distribution(plain):
    """Its variance is 1 - 2 c density(c) / (2 cdf(c) - 1); the draws are those of the sample's index alone."""
    z = np.asarray(plain.latents(640, seed=3, bound=1.0)[0])
    assert np.abs(z).max() <= 1.0
    variance = 1 - 2 * np.exp(-0.5) / np.sqrt(2 * np.pi) / 0.6826895
    np.testing.assert_allclose([z.mean(), z.var()], [0.0, variance], atol=0.02)  # of 10,240 draws
    np.testing.assert_array_equal(plain.latents(5, seed=3, bound=1.0)[0], z[:5])
    for free, bounded in zip(plain.latents(9)[1:], plain.latents(9, bound=0.5)[1:], strict=True):
        np.testing.assert_array_equal(jax.random.key_data(free) if free.dtype != np.int32 else free,
                                      jax.random.key_data(bounded) if free.dtype != np.int32 else bounded)  # fmt: skip


def test_a_wide_bound_is_none(plain):
    np.testing.assert_allclose(plain.latents(64)[0], plain.latents(64, bound=30.0)[0], atol=1e-3)  # in the tails
    z, labels, keys = plain.latents(6, bound=0.4)
    np.testing.assert_array_equal(plain.sample(6, truncation=0.4), plain.decode(z, labels, keys))


def test_styles_move_to_their_mean(styled):
    free, none, half, mean = (styled.sample(8, labels=1, truncation=psi) for psi in (None, 1.0, 0.5, 0.0))
    np.testing.assert_array_equal(free, none)
    assert (mean == mean[:1]).all()  # all at the mean style, and noise has strength 0 at first
    spread = [x.astype(float).std(axis=0).mean() for x in (free, half, mean)]
    assert spread[0] > spread[1] > spread[2] == 0


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 0.0])
def test_what_is_no_truncation(plain, styled, value):
    with pytest.raises(ValueError, match="truncation="):
        plain.sample(1, truncation=value)
    if value:
        with pytest.raises(ValueError, match="truncation="):
            styled.sample(1, truncation=value)


@pytest.mark.parametrize("model", ["sngan", "biggan"])
def test_standing_statistics_are_means_over_batches(model):
    """Those of the first batch norm are computed from the weights; all of them do not depend on the old ones."""
    old = generator(model, size=16)
    new = old.with_standing_statistics(batches=3, batch_size=8, seed=5)
    variables = jax.tree.map(lambda x: x + 7.0, running_moments(old.variables))
    other = with_stats(old, variables).with_standing_statistics(3, 8, 5)
    for one, two in zip(jax.tree.leaves(new.variables), jax.tree.leaves(other.variables), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)

    def recorded(z, labels, keys):
        """Running statistics that began as 0 and have seen one batch, undone."""
        zeros = with_stats(old, jax.tree.map(np.zeros_like, variables)).variables
        _, state = old.module.apply(zeros, z, labels, train=True, keys=keys, mutable=["batch_stats"])
        return {path: value / 0.1 for path, value in running_moments(state).items()}

    draws = [draw(5, 16, 0, -1 - np.arange(8 * i, 8 * i + 8)) for i in range(3)]
    expected = jax.tree.map(lambda *x: np.mean(x, axis=0), *(recorded(*batch) for batch in draws))
    for path, value in running_moments(new.variables).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-4, atol=1e-5, err_msg=str(path))
    if model == "sngan":
        dense = old.variables["params"]["dense"]
        x = np.stack([z @ dense["kernel"] + dense["bias"] for z, _, _ in draws]).reshape(3, -1, 16)
        np.testing.assert_allclose(new.variables["batch_stats"]["norm_0a"]["norm"]["var"], x.var(1).mean(0), rtol=1e-4)
    # Parameters and spectral norm's vectors are the same arrays as before.
    before, after = (traverse_util.flatten_dict(g.variables) for g in (old, new))
    assert all(after[path] is x for path, x in before.items() if path[-1] not in ("mean", "var"))


def test_standing_statistics_by_seed_device_and_batch():
    old = generator("dcgan", size=16)
    z = np.asarray(old.latents(64)[0])
    assert not (np.asarray(draw(0, 16, 0, -1 - np.arange(64))[0])[:, None] == z).all(-1).any()
    first = old.with_standing_statistics(2, 4).sample(4)
    np.testing.assert_array_equal(old.with_standing_statistics(2, 4).sample(4), first)
    assert (old.with_standing_statistics(2, 4, seed=1).sample(4) != first).any()
    with jax.default_device(jax.devices()[3]):
        moved = Generator(old.config, jax.device_put(old.variables, jax.devices()[3]), 0)
        again = moved.with_standing_statistics(2, 4)
        np.testing.assert_array_equal(again.sample(4), first)
    assert again.variables["batch_stats"]["norm_0"]["norm"]["mean"].devices() == {jax.devices()[3]}
    with pytest.raises(ValueError, match="give at least 1 of 1"):
        old.with_standing_statistics(0)


def test_standing_statistics_need_batch_norm(styled):
    with pytest.raises(ValueError, match="stylegan2 has no batch norm"):
        styled.with_standing_statistics()


def test_interpolation_of_styles_is_straight(styled):
    """Its ends are samples; the middle is made from the mean of their styles."""
    z, _, keys = styled.latents(4)
    walk = styled.interpolate(2, 3, labels=[1, 2], space="w").reshape(2, 3, 8, 8, 3)
    labels = np.array([1, 1, 2, 2])
    ends = styled.decode(z, labels, keys[np.array([0, 0, 2, 2])]).reshape(2, 2, 8, 8, 3)
    np.testing.assert_allclose(walk[:, [0, 2]].astype(int), ends.astype(int), atol=1)
    w = styled.styles(z, labels)
    middle = styled.decode((w[::2] + w[1::2]) / 2, labels[::2], keys[::2])
    np.testing.assert_allclose(walk[:, 1].astype(int), middle.astype(int), atol=1)
    mean = styled.interpolate(2, 3, truncation=0.0, space="w")
    assert (mean == mean[:1]).all()


def test_interpolation_needs_its_space(plain, styled):
    with pytest.raises(ValueError, match="mlp has no styles"):
        plain.interpolate(1, 2, space="w")
    with pytest.raises(ValueError, match="space='x': give z or w"):
        styled.interpolate(1, 2, space="x")


def test_a_column_a_class(plain, styled):
    np.testing.assert_array_equal(styled.class_columns(2, 3), [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(styled.class_columns(1, 12), [*range(10), 0, 1])
    with pytest.raises(ValueError, match="unconditional"):
        plain.class_columns(2, 3)
