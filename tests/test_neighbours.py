"""Neighbours, precision, recall, density, coverage and memorisation against brute force and in closed form."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgan.evaluation.metrics.memorisation import authpct
from jaxgan.evaluation.metrics.neighbours import nearest, squared_distances, to_device
from jaxgan.evaluation.metrics.prdc import prdc


def brute_force_prdc(fake, real, k):
    """The definitions, from whole matrices."""
    between = cdist(real, fake)
    radius_fake, radius_real = (np.sort(cdist(z, z), axis=1)[:, k] for z in (fake, real))
    in_real = between < radius_real[:, None]
    return {
        "precision": in_real.any(axis=0).mean(),
        "recall": (between < radius_fake).any(axis=1).mean(),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(axis=1).mean(),
    }


@pytest.mark.parametrize("d", [1, 24, 2048])
def test_float32_is_as_wrong_as_it_says_at_most(d):
    rng = np.random.default_rng(0)
    x = rng.normal(0.4, 0.3, size=(100, d))
    y = x + np.logspace(-6, 1, 100)[:, None] * rng.normal(size=x.shape)  # from nearly the same to far
    moved, unit = to_device(x, y)
    squared, error = (np.asarray(value, np.float64) for value in squared_distances(*moved))
    wrong = np.abs(squared - np.square(cdist(x, y) / unit))
    assert np.all(wrong <= error)
    assert np.all(error < 3e-5 * squared.max())


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_nearest_against_brute_force(offset):
    rng = np.random.default_rng(1)
    features, reference = offset + rng.normal(size=(40, 6)), offset + rng.normal(size=(90, 6))
    everything = cdist(features, reference)
    index, distance = nearest(features, reference, k=4, block_rows=7)
    assert np.array_equal(index, np.argsort(everything, axis=1)[:, :4])
    np.testing.assert_allclose(distance, np.sort(everything, axis=1)[:, :4], rtol=1e-12)


def test_nearest_but_itself():
    features = np.random.default_rng(2).normal(size=(30, 3)).astype(np.float32)
    index, distance = nearest(features, features)
    assert np.array_equal(index[:, 0], np.arange(30))
    assert not distance.any()
    others = cdist(features, features) + np.diag(np.full(30, np.inf))
    index, distance = nearest(features, features, k=29, skip=np.arange(30))
    assert np.array_equal(index, np.argsort(others, axis=1)[:, :29])
    np.testing.assert_allclose(distance, np.sort(others, axis=1)[:, :29], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_units_do_not_matter(scale):
    rng = np.random.default_rng(3)
    fake, real = rng.normal(size=(50, 4)), rng.normal(size=(60, 4))
    assert prdc(fake * scale, real * scale) == prdc(fake, real)
    np.testing.assert_allclose(nearest(fake * scale, real * scale)[1], scale * nearest(fake, real)[1])


@pytest.mark.parametrize("k", [1, 5])
def test_prdc_against_brute_force(k):
    rng = np.random.default_rng(4)
    fake, real = rng.normal(0.3, 0.8, size=(70, 5)), rng.normal(size=(110, 5))
    assert prdc(fake, real, k, block_rows=7) == pytest.approx(brute_force_prdc(fake, real, k), rel=1e-12)


def test_prdc_of_ties_far_from_the_origin():
    """Lattice points have whole squared distances, so most neighbours lie on the edge of a ball, which is outside."""
    rng = np.random.default_rng(5)
    fake, real = rng.integers(0, 3, size=(60, 4)), rng.integers(0, 3, size=(80, 4))
    assert prdc(fake + 1000.0, real + 1000.0, block_rows=7) == pytest.approx(brute_force_prdc(fake, real, 5), rel=1e-12)


def test_prdc_of_a_set_and_itself():
    """Density is exactly 1: a ball has its centre and k - 1 neighbours inside, and the k-th on its edge."""
    features = np.random.default_rng(6).normal(size=(200, 8)).astype(np.float32)
    assert prdc(features, features.copy(), block_rows=64) == {
        "precision": 1.0,
        "recall": 1.0,
        "density": 1.0,
        "coverage": 1.0,
    }


def test_prdc_of_sets_far_apart():
    features = np.random.default_rng(7).normal(size=(50, 8))
    assert prdc(features, features + 100.0) == dict.fromkeys(("precision", "recall", "density", "coverage"), 0.0)


def test_prdc_tells_quality_from_variety():
    """Fakes are one half of the reals, then the reals and as many points of nowhere."""
    rng = np.random.default_rng(8)
    real = np.concatenate([rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 50.0])
    half, half_wrong = real[:200], np.concatenate([real, real - 500.0])
    assert prdc(half, real) == pytest.approx({"precision": 1.0, "recall": 0.5, "density": 1.0, "coverage": 0.5})
    assert prdc(half_wrong, real) == pytest.approx({"precision": 0.5, "recall": 1.0, "density": 0.5, "coverage": 1.0})


def test_blocks_and_axes_do_not_matter():
    rng = np.random.default_rng(9)
    fake, real = rng.normal(0.2, 0.9, size=(150, 16)), rng.normal(size=(150, 16))
    basis = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    whole, authentic = prdc(fake, real), authpct(fake, real)
    assert prdc(fake @ basis + 3.0, real @ basis + 3.0) == whole
    for rows in (40, 64):
        assert prdc(fake, real, block_rows=rows) == whole
        assert authpct(fake, real, block_rows=rows) == authentic


def test_density_of_equal_distributions_is_about_one():
    rng = np.random.default_rng(10)
    result = prdc(rng.normal(size=(1500, 5)), rng.normal(size=(1500, 5)))
    assert result["density"] == pytest.approx(1.0, abs=0.05)
    assert result["coverage"] == pytest.approx(1.0 - 0.5**5, abs=0.02)  # 1 - 2^-k (Naeem et al. 2020)


def test_copies_are_not_authentic():
    train = np.random.default_rng(11).normal(size=(60, 5)).astype(np.float32)
    assert authpct(train[::2], train) == 0.0
    assert authpct(np.concatenate([train, train + 100.0]), train) == 50.0


@pytest.mark.parametrize(("d", "mutual"), [(1, 2 / 3), (2, 0.6215)])
def test_fresh_draws(d, mutual):
    """Not authentic is what is its nearest neighbour's nearest, too; how many are, is known (Clark & Evans 1955)."""
    rng = np.random.default_rng(12)
    fresh = [authpct(rng.uniform(size=(100, d)), rng.uniform(size=(4000, d))) for _ in range(10)]
    assert np.mean(fresh) == pytest.approx(100.0 * (1.0 - mutual), abs=5.0)


X = np.random.default_rng(13).normal(size=(9, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prdc(X[:5], X), "features must be at least 6 rows here, not 5"),
        (lambda: prdc(X, X[:5]), "reference features must be at least 6 rows here, not 5"),
        (lambda: prdc(X, X[:, :2]), "3 columns"),
        (lambda: prdc(X, X, 0), "k >= 1, not 0"),
        (lambda: prdc(np.where(X > 1.0, np.nan, X), X), "finite"),
        (lambda: nearest(X, X[:3], k=4), "at least 4 rows"),
        (lambda: nearest(X, X, k=9, skip=np.arange(9)), "at least 10 rows"),
        (lambda: nearest(X, X, k=0), "k >= 1, not 0"),
        (lambda: nearest(X, X, skip=np.arange(4)), r"rows to skip must be integers \[9\]"),
        (lambda: nearest(X[0], X), r"\[n, d\]"),
        (lambda: authpct(X, X[:1]), "reference features must be at least 2 rows"),
        (lambda: authpct(X[:0], X), "features must be at least 1 rows"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
