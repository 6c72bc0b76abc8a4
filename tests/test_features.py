"""Features on any number of devices, and those of the reals from the cache: resumed after a kill, never mistaken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core.parallel import LocalMap
from jaxgan.data.decoding import Decoded
from jaxgan.evaluation import features
from jaxgan.evaluation.features import Extraction, identity, image_blocks, kept_features
from jaxgan.evaluation.networks import Extractor


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(features, "CHUNK", 2)  # blocks of 16 images on the 8 devices
    monkeypatch.setattr(features, "FLUSH_IMAGES", 16)


class Counted(Decoded):
    """A set that counts what is read of it and may fail."""

    def __init__(self, n=50, channels=3, seed=0):
        images = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, channels), np.uint8)
        super().__init__(images, np.arange(n, dtype=np.int32) % 5, 5)
        self.read, self.fail_after = 0, None

    def get(self, indices):
        if self.fail_after is not None and self.read >= self.fail_after:
            raise KeyboardInterrupt
        self.read += len(indices)
        return super().get(indices)


def extractor(weights="abc", scale=1.0):
    def apply(variables, images):
        flat = images.reshape(len(images), -1).astype(jnp.float32) * variables["scale"]
        return {"left": images[:, :, 0, 0].astype(jnp.float32), "moments": jnp.stack([flat.mean(1), flat.std(1)], 1)}

    return Extractor("simple", apply, {"scale": jnp.float32(scale)}, weights, "none")


KINDS = ("simple/left", "simple/moments")


def extraction(**changes):
    return Extraction({"simple": extractor(**changes)}, KINDS)


def test_any_number_of_examples_on_all_devices():
    mapped = LocalMap(lambda variables, block: {"y": block["x"] * variables + 1}, chunk=2)
    assert mapped.block == 2 * jax.local_device_count() == 16
    for n in (1, 15, 16, 17, 50):
        x = np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)
        blocks = [{"x": x[i : i + 16]} for i in range(0, n, 16)]
        out = list(mapped(np.float32(3.0), blocks))
        assert [len(part["y"]) for part in out] == [len(block["x"]) for block in blocks]
        np.testing.assert_array_equal(np.concatenate([part["y"] for part in out]), 3 * x + 1)


def test_features_are_those_of_one_device():
    dataset, indices = Counted(), np.arange(50)
    got = kept_features(dataset, indices, extraction(), what="a test", active=False)
    e = extractor()
    expected = jax.jit(e.apply)(e.variables, dataset.images)
    for kind in KINDS:
        np.testing.assert_allclose(got[kind], expected[kind.partition("/")[2]], rtol=1e-5)
        assert got[kind].dtype == np.float32


def test_kept_features_are_not_computed_again():
    dataset, indices = Counted(), np.arange(50)
    first = kept_features(dataset, indices, extraction(), what="a test", active=False)
    hashed = dataset.read - 50
    dataset.read = 0
    again = kept_features(dataset, indices, extraction(), what="a test", active=False)
    assert dataset.read == hashed == 50  # to know that it is the same set
    for kind in KINDS:
        np.testing.assert_array_equal(first[kind], again[kind])


def test_a_kill_loses_little():
    dataset, indices = Counted(), np.arange(50)
    expected = kept_features(Counted(seed=0), indices, extraction(weights="other"), what="a test", active=False)
    dataset.fail_after = 50 + 32
    with pytest.raises(KeyboardInterrupt):
        kept_features(dataset, indices, extraction(), what="a test", active=False)
    dataset.read, dataset.fail_after = 0, None
    got = kept_features(dataset, indices, extraction(), what="a test", active=False)
    assert dataset.read == 50 + (50 - 16)  # the second of the two blocks was still on its way
    for kind in KINDS:
        np.testing.assert_array_equal(got[kind], expected[kind])


def test_everything_that_changes_features_has_a_place_of_its_own():
    indices = np.arange(50)

    def compute(dataset=None, indices=indices, **changes):
        return kept_features(dataset or Counted(), indices, extraction(**changes), what="a test", active=False)

    first = compute()["simple/moments"]
    assert not np.array_equal(compute(Counted(seed=1))["simple/moments"], first)
    np.testing.assert_array_equal(compute(indices=indices[::-1])["simple/moments"], first[::-1])
    np.testing.assert_allclose(compute(weights="other", scale=2.0)["simple/moments"], 2 * first, rtol=1e-6)
    assert compute(indices=indices[:20])["simple/moments"].shape == (20, 2)


def test_grey_images_are_three_times_the_grey():
    grey = Counted(channels=1)
    rgb = Decoded(grey.images.repeat(3, axis=-1), grey.labels, 5)
    a, b = (kept_features(d, np.arange(50), extraction(), what="a test", active=False) for d in (grey, rgb))
    np.testing.assert_array_equal(a["simple/left"], b["simple/left"])


def test_mirrored_images():
    dataset = Counted(n=5)
    blocks = list(image_blocks(dataset, np.arange(10), 4, start=2))
    assert [len(block) for block in blocks] == [4, 4]
    images = np.concatenate(blocks)
    np.testing.assert_array_equal(images[:3], dataset.images[2:])
    np.testing.assert_array_equal(images[3:], dataset.images[:, :, ::-1])


def test_identity_sees_every_pixel():
    dataset = Counted(n=600)
    before = identity(dataset)
    assert identity(Counted(n=600)) == before
    dataset.images[123, 1, 2, 0] ^= 1
    assert identity(dataset) != before
