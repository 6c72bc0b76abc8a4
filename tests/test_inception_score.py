"""The Inception Score in closed form."""

import numpy as np
import pytest

from jaxgan.evaluation.metrics.inception_score import inception_score


def test_a_classifier_that_knows_nothing():
    logits = np.random.default_rng(0).normal(size=(40, 1)) * np.ones(7)
    assert inception_score(logits) == pytest.approx((1.0, 0.0), abs=1e-12)


@pytest.mark.parametrize("sure", [60.0, 1e4])
def test_sure_and_balanced(sure):
    """Also where the probabilities of the other classes are 0 in float64."""
    logits = sure * np.eye(5)[np.arange(100) % 5]
    assert inception_score(logits, splits=1) == pytest.approx((5.0, 0.0))
    assert inception_score(logits, splits=10, shuffle=False) == pytest.approx((5.0, 0.0))


def test_sure_and_unbalanced():
    """exp of the entropy of the shares, here 3/4 and 1/4; a class that never occurs adds nothing."""
    logits = 1e4 * np.eye(3)[[0, 0, 0, 1]]
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert inception_score(logits, splits=1)[0] == pytest.approx(np.exp(entropy))


def test_unsure():
    """Two classes, told apart with probability p: log of the score is log 2 - H(p)."""
    p = 0.8
    logits = np.log([[p, 1 - p], [1 - p, p]])
    expected = 2.0 * np.exp(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert inception_score(logits + 5.0, splits=1)[0] == pytest.approx(expected)


def test_sorted_samples_need_the_shuffle():
    logits = 50.0 * np.eye(4)[np.repeat(np.arange(4), 250)]
    assert inception_score(logits, splits=4, shuffle=False) == pytest.approx((1.0, 0.0))
    assert inception_score(logits, splits=4)[0] > 3.9


def test_deviation_is_that_of_the_parts():
    logits = 50.0 * np.eye(2)[[0, 1, 0, 0]]  # scores 2 and 1
    assert inception_score(logits, splits=2, shuffle=False) == pytest.approx((1.5, 0.5))


@pytest.mark.parametrize(
    ("logits", "splits", "message"),
    [
        (np.zeros((19, 3)), 10, "logits must be at least 20 rows here, not 19"),
        (np.zeros(30), 10, r"logits must be an array \[n, d\]"),
        (np.full((30, 3), -np.inf), 10, "30 of 30 rows"),
        (np.zeros((30, 3)), 0, "splits >= 1, not 0"),
    ],
)
def test_bad_input_is_one_line(logits, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(logits, splits)
