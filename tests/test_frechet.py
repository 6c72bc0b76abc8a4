"""Fréchet distances in closed form, and moments that do not depend on how the rows come."""

import numpy as np
import pytest

from jaxgan.evaluation.metrics.frechet import Gaussian, Moments, frechet_distance, frechet_infinity, frechet_per_class


def fit(features):
    return Moments().add(features).gaussian()


def rotation(rng, d):
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def test_moments_of_batches_of_any_size():
    features = np.random.default_rng(0).normal(3.0, 2.0, size=(100, 5)).astype(np.float32)
    moments = Moments(block_rows=7)
    for batch in np.split(features, [1, 2, 40, 41]):
        moments.add(batch)
    gaussian = moments.gaussian()
    assert moments.n == 100
    np.testing.assert_allclose(gaussian.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(gaussian.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12)


def test_merged_moments_are_those_of_all_rows():
    features = np.random.default_rng(1).normal(size=(90, 4))
    parts = [Moments().add(part) for part in np.split(features, [20, 21])]
    merged = Moments().merge(Moments())
    for part in parts:
        merged.merge(part)
    parts[0].add(features)  # what was merged is a copy
    np.testing.assert_allclose(merged.gaussian().mean, fit(features).mean, rtol=1e-12)
    np.testing.assert_allclose(merged.gaussian().covariance, fit(features).covariance, rtol=1e-12)


def test_a_large_mean_costs_no_digits():
    features = np.random.default_rng(2).integers(-50, 50, size=(3000, 3)).astype(np.float64)
    moments = Moments()
    for batch in np.array_split(features + 1e9, 30):
        moments.add(batch)
    np.testing.assert_allclose(moments.gaussian().covariance, np.cov(features, rowvar=False), rtol=1e-6, atol=1e-5)


def test_distance_of_commuting_covariances():
    rng = np.random.default_rng(3)
    basis, a, b, shift = rotation(rng, 6), rng.uniform(0.1, 9, 6), rng.uniform(0.1, 9, 6), rng.normal(size=6)
    gaussians = (
        Gaussian(np.zeros(6), basis * a @ basis.T),
        Gaussian(shift, basis * b @ basis.T),
    )
    expected = np.sum(shift**2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(*gaussians) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(*gaussians[::-1]) == pytest.approx(expected, rel=1e-12)


def test_distance_of_covariances_that_do_not_commute():
    """In two dimensions the trace of the root of a matrix M is (tr M + 2 det(M)^(1/2))^(1/2)."""
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2.0], [-2.0, 1.0]])
    root = np.sqrt(np.trace(a @ b) + 2.0 * np.sqrt(np.linalg.det(a @ b)))
    mean = np.zeros(2)
    assert frechet_distance(Gaussian(mean, a), Gaussian(mean, b)) == pytest.approx(11.0 - 2.0 * root, rel=1e-12)


def test_distance_of_singular_covariances():
    a, b, mean = np.array([1.0, 2.0, 2.0]), np.array([3.0, 0.0, -1.0]), np.zeros(3)
    one, other, point = (Gaussian(mean, np.outer(v, v)) for v in (a, b, mean))
    assert frechet_distance(one, other) == pytest.approx(a @ a + b @ b - 2.0 * abs(a @ b), rel=1e-12)
    assert frechet_distance(one, point) == pytest.approx(a @ a)
    assert frechet_distance(point, point) == 0.0


@pytest.mark.parametrize(("n", "d"), [(30, 200), (500, 40)])
def test_a_set_has_no_distance_from_itself(n, d):
    """Also with fewer rows than columns, and variances over six orders of magnitude."""
    rng = np.random.default_rng(4)
    features = rng.normal(size=(n, d)) * np.logspace(-3, 0, d) @ rotation(rng, d)
    assert 0.0 <= frechet_distance(fit(features), fit(features[::-1])) < 1e-12
    doubled = np.sum(np.square(features.mean(axis=0))) + np.trace(fit(features).covariance)
    assert frechet_distance(fit(features), fit(2.0 * features)) == pytest.approx(doubled, rel=1e-12)


def test_distance_of_few_rows_from_a_full_covariance():
    """Against N(0, I) the root of C_a C_b is that of C_a, whose rank is 9 of 60."""
    features = np.random.default_rng(5).normal(size=(10, 60))
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)[:9] / 3.0
    expected = np.sum(features.mean(axis=0) ** 2) + np.sum(values**2) + 60.0 - 2.0 * np.sum(values)
    assert frechet_distance(fit(features), Gaussian(np.zeros(60), np.eye(60))) == pytest.approx(expected, rel=1e-12)


def test_distance_does_not_depend_on_axes():
    rng = np.random.default_rng(6)
    a, b, basis = rng.normal(size=(50, 8)), rng.normal(1.0, 2.0, size=(40, 8)), rotation(rng, 8)
    moved = frechet_distance(fit(a @ basis + 5.0), fit(b @ basis + 5.0))
    assert moved == pytest.approx(frechet_distance(fit(a), fit(b)), rel=1e-10)


def test_extrapolation_removes_the_bias():
    """Mean error of 40 estimates from 1,000 rows each: the plain distance is many standard errors too large."""
    rng = np.random.default_rng(7)
    d, repeats = 12, 40
    reference, variance = Gaussian(np.zeros(d), np.eye(d)), np.linspace(0.6, 1.5, d)
    truth = 0.01 * d + np.sum((np.sqrt(variance) - 1.0) ** 2)
    sets = [rng.normal(0.1, np.sqrt(variance), size=(1000, d)) for _ in range(repeats)]
    plain = np.array([frechet_distance(fit(x), reference) for x in sets]) - truth
    unbiased = np.array([frechet_infinity(x, reference, smallest=200, seed=i) for i, x in enumerate(sets)]) - truth
    assert plain.mean() > 8.0 * plain.std() / repeats**0.5
    assert abs(unbiased.mean()) < 3.0 * unbiased.std() / repeats**0.5
    assert abs(unbiased.mean()) < 0.25 * plain.mean()


def test_extrapolation_belongs_to_the_seed():
    features = np.random.default_rng(8).normal(size=(60, 3))
    reference = Gaussian(np.zeros(3), np.eye(3))
    first, again, other = (frechet_infinity(features, reference, smallest=20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_each_class_has_its_own_distance():
    rng = np.random.default_rng(9)
    reference, labels = rng.normal(size=(60, 4)), rng.permutation(60) % 3
    shift = np.array([0.0, 1.0, 3.0])
    order = rng.permutation(60)
    mean, each = frechet_per_class((reference + shift[labels][:, None])[order], labels[order], reference, labels)
    assert each == pytest.approx({0: 0.0, 1: 4.0, 2: 36.0}, abs=1e-10)
    assert mean == pytest.approx(40.0 / 3.0)


NORMAL = np.random.default_rng(10).normal(size=(8, 3))
REFERENCE = fit(NORMAL)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(NORMAL[0]), r"\[n, d\].*\(3,\)"),
        (lambda: fit(NORMAL[:1]), "at least 2 rows.*not 1"),
        (lambda: Moments().add(NORMAL[:0]), "at least 1 rows"),
        (lambda: fit(np.where(NORMAL > 0.0, np.nan, NORMAL)), "finite, but . of 8 rows"),
        (lambda: Moments().add(NORMAL).add(NORMAL[:, :2]), "3 columns.*not 2"),
        (lambda: Moments().add(NORMAL).merge(Moments().add(NORMAL[:, :2])), "3 and of 2 columns"),
        (lambda: Gaussian(np.zeros(3), np.eye(2)), r"\(3,\) and \(2, 2\)"),
        (lambda: Gaussian(np.zeros(2), np.diag([1.0, np.inf])), "finite"),
        (lambda: Gaussian(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: Gaussian(np.zeros(2), np.diag([1.0, -0.5])).factor, "negative eigenvalues"),
        (lambda: frechet_distance(REFERENCE, fit(NORMAL[:, :2])), "3 and in 2 dimensions"),
        (lambda: frechet_infinity(NORMAL, REFERENCE), "smallest < 8.*smallest=5000"),
        (lambda: frechet_infinity(NORMAL, REFERENCE, sizes=1, smallest=4), "sizes=1"),
        (lambda: frechet_infinity(NORMAL[:, :2], REFERENCE, smallest=4), "3 columns"),
        (lambda: frechet_per_class(NORMAL, np.zeros(7, int), NORMAL, np.zeros(8, int)), r"\[8\], not int64.*\(7,\)"),
        (lambda: frechet_per_class(NORMAL, np.zeros(8, int), NORMAL, np.zeros(8)), "reference labels.*float64"),
        (lambda: frechet_per_class(NORMAL, np.arange(8) // 4, NORMAL, np.zeros(8, int)), "class 1 has 4 rows and 0"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
