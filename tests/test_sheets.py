"""Contact sheets: how many images of what, and the arrays beside them."""

import dataclasses

import numpy as np
import pytest

from jaxgan.core.errors import ConfigError
from jaxgan.data import DataSpec
from jaxgan.sampling import sheets
from jaxgan.sampling.pictures import save_images
from tests.helpers import tiny_generator


@pytest.fixture(scope="module")
def net():
    return tiny_generator("mlp", num_classes=3)


def test_labels_are_used_one_after_the_other(net):
    images, columns, arrays, _ = sheets.samples(net, 5, labels=["2", "0"])
    assert columns == 3
    np.testing.assert_array_equal(arrays["labels"], [2, 0, 2, 0, 2])
    np.testing.assert_array_equal(images, net.sample(5, labels=[2, 0, 2, 0, 2]))
    with pytest.raises(ValueError, match=r"labels=\['a'\]: give integers"):
        sheets.samples(net, 5, labels=["a"])


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (0, ["3"], r"^labels=\['3'\]: this generator is unconditional$"),
        (3, ["3"], r"^labels=\['3'\]: .*classes are 0 \.\. 2$"),
        (3, [], r"^labels=\[\]: give integers"),
        (3, ["1.5"], r"^labels=\['1\.5'\]: give integers"),
    ],
)
def test_labels_in_an_error_are_those_that_were_given(net, classes, labels, message):
    generator = net if classes else tiny_generator("mlp")
    for sheet in (sheets.samples, sheets.interpolations):
        with pytest.raises(ValueError, match=message):
            sheet(generator, 64, labels=labels)


def test_labels_by_name(net):
    named = dataclasses.replace(net, data=DataSpec(8, 3, 3, 10, "", ["cat", "dog", "1"]))
    labels = sheets.samples(named, 4, labels=["dog", "0", "1", "cat"]).arrays["labels"]  # a name comes before a number
    np.testing.assert_array_equal(labels, [1, 0, 2, 0])
    np.testing.assert_array_equal(named.sample(2, labels="dog"), named.sample(2, labels=1))
    with pytest.raises(ConfigError, match=r"^labels=\['dgo'\]: there is no class 'dgo'; nearest: dog; .* 0 \.\. 2$"):
        sheets.samples(named, 4, labels=["dgo"])
    with pytest.raises(ConfigError, match="classes are 0"):
        sheets.samples(named, 4, labels=["7"])
    assert sheets.classes(named, 1, 4).titles == ("cat", "dog", "1", "cat")
    assert sheets.classes(net, 1).titles == sheets.samples(named, 4).titles == ()


def test_a_column_for_each_class(net):
    sheet = sheets.classes(net, 2)
    assert sheet.columns == 3
    np.testing.assert_array_equal(sheet.images, net.sample(6, labels=[0, 1, 2, 0, 1, 2]))


def test_rows_of_interpolations_and_directions(net):
    assert sheets.interpolations(net, 2, labels=[1]).images.shape == (20, 8, 8, 3)
    sheet = sheets.semantics(net, 2, 3, labels=[1])
    assert sheet.images.shape == (6, 8, 8, 3)
    assert sheet.arrays["directions"].shape == (2, 16)
    assert sheet.arrays["strengths"][0] >= sheet.arrays["strengths"][1]
    with pytest.raises(ValueError, match="give one, or 1"):
        sheets.semantics(net, 2, labels=[1, 2])


def test_inversions_stand_beside_their_targets(net, tmp_path):
    targets = net.sample(2, labels=1)
    save_images(tmp_path, targets, 1)
    sheet = sheets.inversions(net, tmp_path, labels=[1], steps=3)
    np.testing.assert_array_equal(sheet.images[::2], targets)
    assert sheet.arrays["distances"].shape == (2,)
    assert set(sheet.arrays["labels"]) == {1}
