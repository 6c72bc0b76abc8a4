"""Metrics against public packages; golden/metrics.py says which, and made the values."""

import pathlib

import numpy as np
import pytest

from jaxgan.evaluation.metrics.frechet import Moments, frechet_distance
from jaxgan.evaluation.metrics.inception_score import inception_score
from jaxgan.evaluation.metrics.kid import kid
from jaxgan.evaluation.metrics.memorisation import authpct
from jaxgan.evaluation.metrics.prdc import prdc


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "metrics.npz") as values:
        return dict(values)


@pytest.mark.parametrize("package", ["pytorch_fid", "torch_fidelity"])
def test_frechet(golden, package):
    fake, real = (Moments().add(golden[name]).gaussian() for name in ("fake", "real"))
    assert frechet_distance(fake, real) == pytest.approx(golden[f"fid_{package}"], rel=1e-6)


def test_kid(golden):
    result = kid(golden["fake"], golden["real"], subsets=20, subset_size=100)
    assert result == pytest.approx(golden["kid"], rel=1e-6)


@pytest.mark.parametrize(("splits", "shuffle"), [(1, True), (10, True), (7, False)])
def test_inception_score(golden, splits, shuffle):
    result = inception_score(golden["logits"], splits, shuffle)
    assert result == pytest.approx(golden[f"is_{splits}"], rel=1e-6)


@pytest.mark.parametrize("k", [3, 5])
def test_prdc(golden, k):
    expected = {name: golden[f"{name}_{k}"].item() for name in ("precision", "recall", "density", "coverage")}
    assert prdc(golden["fake"], golden["real"], k) == pytest.approx(expected, rel=1e-6)


def test_authpct(golden):
    assert authpct(golden["fake"], golden["real"]) == pytest.approx(golden["authpct"], rel=1e-6)
