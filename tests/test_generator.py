"""Truncation of latents and of styles."""

import jax
import numpy as np
import pytest

from jaxgan.generator import Generator
from jaxgan.state import create_state, make_nets
from tests.test_update import KEY, tiny


def generator(model, **changes):
    config = tiny(model=model, **{"data.image_size": 8}, **changes)
    return Generator(config, jax.jit(lambda: create_state(make_nets(config), KEY).ema)(), 0)


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
