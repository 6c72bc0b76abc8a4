"""Numerals in colour: what is drawn, that it never changes, and the classifier on images that it has not seen."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxgan import data
from jaxgan.core.errors import ConfigError
from jaxgan.data.numerals import EXTENT, FONTS, SPLITS, Numerals, distance_fields
from jaxgan.evaluation.networks import numerals as network
from jaxgan.settings import default_config


@pytest.fixture(scope="module")
def train():
    return Numerals("train", 32)


@pytest.fixture(scope="module")
def classifier():
    return network.load()


def test_numerals_have_their_holes():
    """Ink cuts the ground into the outside and, of a 0, 4, 6 or 9, one hole, of an 8 two; it hangs together itself."""
    grounds = [[ndimage.label(field <= 0)[1] for field in font] for font in distance_fields()]
    assert grounds == [[2, 1, 1, 1, 2, 1, 2, 1, 3, 2]] * len(FONTS)
    for field in distance_fields().reshape(-1, *distance_fields().shape[2:]):
        rows = np.flatnonzero((field > 0).any(axis=1))
        assert (rows[-1] - rows[0] + 1) * 2 * EXTENT / len(field) == pytest.approx(1.0, abs=0.08)


def test_fields_are_distances():
    """Their slope is 1 nearly everywhere, and nowhere more."""
    fields = distance_fields()
    slope = np.hypot(*np.gradient(fields, 2 * EXTENT / fields.shape[-1], axis=(2, 3)))
    assert np.median(slope) == pytest.approx(1.0, abs=0.01)
    assert slope.max() < 1.1


def test_images_never_change(train):
    """Image i depends on i alone, whatever else is asked for: a run could not be resumed otherwise."""
    images, labels = train.get(np.arange(1100))
    some = np.array([1099, 3, 3, 500])
    again, again_labels = Numerals("train", 32).get(some)
    assert np.array_equal(again, images[some])
    assert np.array_equal(again_labels, labels[some])
    assert labels[:8].tolist() == [5, 2, 6, 1, 9, 0, 6, 9]
    assert images[:4].mean(axis=(1, 2, 3)) == pytest.approx([93.8, 111.0, 101.5, 82.4], abs=0.5)
    test = Numerals("test", 32)
    assert test.labels[:8].tolist() == [2, 4, 9, 0, 9, 6, 1, 5]
    assert (len(train), len(test)) == tuple(SPLITS.values())
    assert not {x.tobytes() for x in images} & {x.tobytes() for x in test.get(np.arange(1100))[0]}


def test_classes_are_uniform(train):
    """Chi-square of 50,000 labels: 9 degrees of freedom."""
    count = np.bincount(train.labels, minlength=10)
    assert abs(np.sum((count - 5000.0) ** 2 / 5000.0) - 9) < 4 * np.sqrt(2 * 9)


def test_an_image_has_two_colours_and_what_lies_between(train):
    images, _ = train.get(np.arange(100))
    for pixels in images.reshape(100, -1, 3).astype(np.float64):
        _, spread, _ = np.linalg.svd(pixels - pixels[0], full_matrices=False)
        assert spread[1] < 0.5 * np.sqrt(len(pixels))  # rounding alone
        assert np.abs(pixels - pixels[0]).max() > 60  # and they differ enough to be read


@pytest.mark.parametrize("size", [16, 32])
def test_a_small_image_is_a_large_one_seen_from_afar(size):
    small, large = (Numerals("test", s).get(np.arange(100))[0].astype(np.float64) for s in (size, 4 * size))
    seen = large.reshape(100, size, 4, size, 4, 3).mean(axis=(2, 4))
    assert np.sqrt(np.mean((small - seen) ** 2)) < 4.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "validation"}, r"config\.data\.split='validation': numerals has the splits train, test"),
        ({"image_size": 8}, r"config\.data\.image_size=8: numerals takes 16 to 128 pixels"),
    ],
)
def test_settings(changes, message):
    config = default_config().data
    config.update({"name": "numerals"} | changes)
    with pytest.raises(ConfigError, match=message):
        data.load(config)


@pytest.mark.parametrize("size", [16, 32])
def test_the_classifier_reads_numerals_that_it_has_not_seen(size, classifier):
    images, labels = Numerals("test", size).get(np.arange(2000))
    outputs = jax.jit(classifier.apply)(classifier.variables, images)
    assert np.mean(outputs["logits"].argmax(axis=1) == labels) >= 0.99
    blocks = images.reshape(2000, 8, size // 8, 8, size // 8, 3).mean(axis=(2, 4)) / 255.0
    np.testing.assert_allclose(outputs["pixels"].reshape(blocks.shape), blocks, atol=1e-5)


def test_the_classifier_sees_no_colour_and_bears_an_empty_image(classifier):
    images, _ = Numerals("test", 32).get(np.arange(50))
    empty = np.full_like(images, 7)
    as_they_are, inverted, swapped, nothing = (
        np.asarray(network.apply(classifier.variables, x)["logits"])
        for x in (images, 255 - images, images[..., ::-1], empty)
    )
    np.testing.assert_allclose(inverted, as_they_are, atol=1e-3)
    np.testing.assert_allclose(swapped, as_they_are, atol=1e-3)
    assert np.isfinite(nothing).all()
