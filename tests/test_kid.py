"""The kernel distance in closed form and against its definition."""

import numpy as np
import pytest

from jaxgan.evaluation.metrics.kid import kid


def test_all_pairs_by_the_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(0.5, 1.0, size=(7, 3))

    def mean(a, b, same):
        return np.mean([(a[i] @ b[j] / 3 + 1) ** 3 for i in range(7) for j in range(7) if not (same and i == j)])

    expected = mean(x, x, True) + mean(y, y, True) - 2.0 * mean(x, y, False)
    assert kid(x, y, subsets=3, subset_size=7) == pytest.approx((expected, 0.0), abs=1e-12)


def test_shifted_normal_in_one_dimension():
    """E (xy + 1)^3 is Ex^3 Ey^3 + 3 Ex^2 Ey^2 + 3 Ex Ey + 1: 4 within N(0, 1), 32 within N(1, 1), 7 between."""
    rng = np.random.default_rng(1)
    mean, deviation = kid(rng.normal(size=(20000, 1)), rng.normal(1.0, 1.0, size=(20000, 1)), 20, 400)
    assert mean == pytest.approx(4 + 32 - 2 * 7, abs=3 * deviation / 20**0.5)
    assert mean == pytest.approx(22.0, rel=0.1)


def test_equal_distributions_have_none():
    rng = np.random.default_rng(2)
    mean, deviation = kid(rng.normal(size=(8000, 6)), rng.normal(size=(8000, 6)), subsets=40, subset_size=200)
    assert abs(mean) < 4.0 * deviation / 40**0.5
    values = [kid(rng.normal(size=(50, 2)), rng.normal(size=(50, 2)), 1, 50)[0] for _ in range(100)]
    assert min(values) < 0.0  # unbiased, not clipped
    assert abs(np.mean(values)) < 3.0 * np.std(values) / 10.0


def test_products_are_in_float64():
    x = np.random.default_rng(3).normal(30.0, 0.1, size=(2, 40, 5)).astype(np.float32)
    single, double = kid(*x, 2, 40), kid(*x.astype(np.float64), 2, 40)
    assert single == double


X = np.random.default_rng(4).normal(size=(9, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kid(X, X), "at least 1000 rows here, not 9"),
        (lambda: kid(X, X[:6], 2, 8), "reference features must be at least 8 rows here, not 6"),
        (lambda: kid(X, X[:, :2], 2, 8), "3 columns"),
        (lambda: kid(X, np.where(X > 1.0, np.inf, X), 2, 8), "reference features must be finite"),
        (lambda: kid(X, X, 2, 1), "subset_size=1"),
        (lambda: kid(X, X, 0, 5), "subsets=0"),
        (lambda: kid(X[..., None], X, 2, 8), r"\[n, d\]"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
