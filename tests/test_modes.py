"""Modes and KL in closed form, and the classifier on digits that it has not seen."""

import math

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgan.data.digits import StackedDigits, load_digits
from jaxgan.evaluation.metrics.modes import modes
from jaxgan.evaluation.networks import digits as extractor


@pytest.fixture(scope="module")
def logits():
    """Images uint8 [N, H, W, C] to what the classifier makes of them, [N, C * 10]."""
    loaded = extractor.load()
    apply = jax.jit(loaded.apply)
    return lambda images: np.asarray(apply(loaded.variables, images)["logits"])


@pytest.fixture(scope="module")
def predict(logits):
    """Images to the digit in each plane, [N, C]."""
    return lambda images: logits(images).reshape(len(images), -1, 10).argmax(axis=-1)


@pytest.fixture(scope="module")
def one_of_each(predict):
    """All 1,000 modes once, uint8 [1000, 8, 8, 3], of digits that the classifier takes for what they are."""
    digits, classes = load_digits(held_out=False)
    right = predict(digits[..., None])[:, 0] == classes
    example = np.stack([digits[right & (classes == c)][0] for c in range(10)])
    rgb = np.stack([np.arange(1000) // 100, np.arange(1000) // 10 % 10, np.arange(1000) % 10], axis=-1)
    return np.moveaxis(example[rgb], 1, -1)


def test_every_mode_once(logits, one_of_each):
    assert modes(logits(one_of_each)) == {"modes": 1000, "kl": pytest.approx(0.0, abs=1e-12)}


def test_a_single_mode(logits, one_of_each):
    images = np.repeat(one_of_each[[123]], 5, axis=0)
    assert modes(logits(images)) == {"modes": 1, "kl": pytest.approx(math.log(1000))}


def test_two_modes_of_unequal_share(logits, one_of_each):
    images = one_of_each[[7, 7, 7, 640]]
    kl = 0.75 * math.log(750) + 0.25 * math.log(250)
    assert modes(logits(images)) == {"modes": 2, "kl": pytest.approx(kl)}


def test_planes_are_hundreds_tens_units(predict, one_of_each):
    assert np.array_equal(predict(one_of_each[[258]]), [[2, 5, 8]])


def test_accuracy_on_held_out_digits(predict):
    digits, classes = load_digits(held_out=True)
    assert np.mean(predict(digits[..., None])[:, 0] == classes) >= 0.985


@pytest.mark.parametrize("size", [12, 16, 28, 32, 64])
def test_resized_digits_are_classified_as_well(predict, size):
    digits, classes = load_digits(held_out=True)
    resized = [Image.fromarray(digit).resize((size, size), Image.Resampling.BILINEAR) for digit in digits]
    predicted = predict(np.stack([np.asarray(image) for image in resized])[..., None])[:, 0]
    assert np.mean(predicted == classes) >= 0.98


def test_downscaling_averages_areas(predict):
    """8x8 blocks of one value each, at a size that 8 divides, give back the 8x8 image exactly."""
    digits, _ = load_digits(held_out=True)
    blocks = digits[:50].repeat(4, axis=1).repeat(4, axis=2)
    assert np.array_equal(predict(blocks[..., None]), predict(digits[:50, ..., None]))


def test_real_images_have_all_modes(logits):
    """KL of 6,000 draws from 1,000 equal modes is about (1000 - 1) / (2 * 6000) = 0.083, with every label right."""
    images, labels = StackedDigits("train", 16).get(np.arange(6000))
    share = np.bincount(labels, minlength=1000) / 6000
    share = share[share > 0]
    expected = {"modes": len(share), "kl": pytest.approx(np.sum(share * np.log(share * 1000)), abs=5e-3)}
    result = modes(logits(images))
    assert result == expected
    assert result["modes"] >= 990
    assert result["kl"] == pytest.approx(0.083, rel=0.15)
