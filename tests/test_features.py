"""Features on any number of devices, and those of the reals from the cache: resumed after a kill, never mistaken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core.progress import progress
from jaxgan.data import ArrayDataset
from jaxgan.evaluation.features import FeatureExtractor, cached_features, identity, image_blocks
from jaxgan.evaluation.networks import FeatureNetwork
from tests.helpers import run_processes


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Counted(ArrayDataset):
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


def network(weights="abc", scale=1.0):
    def apply(variables, images):
        flat = images.reshape(len(images), -1).astype(jnp.float32) * variables["scale"]
        return {"left": images[:, :, 0, 0].astype(jnp.float32), "moments": jnp.stack([flat.mean(1), flat.std(1)], 1)}

    return FeatureNetwork("simple", apply, {"scale": jnp.float32(scale)}, weights, "none")


NAMES = ("simple/left", "simple/moments")


def compute(dataset=None, indices=range(50), **changes):
    """Returns cached features, in blocks of 16 images on all devices, flushed after each."""
    extractor = FeatureExtractor({"simple": network(**changes)}, NAMES, batch_size=16 // jax.local_device_count())
    return cached_features(
        dataset or Counted(), np.array(indices), extractor, "a test", show_progress=False, flush_images=16
    )


def test_a_network_that_takes_few_images_at_a_time_on_a_cpu_has_the_same_features():
    images, counts = Counted().images[:10], []

    def apply(variables, images):
        counts.append(len(images))
        return network().apply(variables, images)

    simple = network()._replace(apply=apply, cpu_batch=4)
    few, all_at_once = simple(simple.variables, images), network().apply(simple.variables, images)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), few, all_at_once)
    assert set(counts) == {1}  # each image is one, of which JAX joins four


def test_features_are_those_of_one_device():
    dataset = Counted()
    features = compute(dataset)
    simple = network()
    expected = jax.jit(simple.apply)(simple.variables, dataset.images)
    for name in NAMES:
        np.testing.assert_allclose(features[name], expected[name.split("/")[1]], rtol=1e-5)
        assert features[name].dtype == np.float32


def test_cached_features_are_not_computed_again():
    dataset = Counted()
    first = compute(dataset)
    hashed = dataset.read - 50
    dataset.read = 0
    again = compute(dataset)
    assert dataset.read == hashed == 50  # to know that it is the same set
    for name in NAMES:
        np.testing.assert_array_equal(first[name], again[name])


def test_a_kill_loses_little():
    expected = compute(weights="other")
    dataset = Counted()
    dataset.fail_after = 50 + 32
    with pytest.raises(KeyboardInterrupt):
        compute(dataset)
    dataset.read, dataset.fail_after = 0, None
    features = compute(dataset)
    assert dataset.read == 50 + (50 - 16)  # the second of the two blocks was still on its way
    for name in NAMES:
        np.testing.assert_array_equal(features[name], expected[name])


def flip(directory):
    content = bytearray((directory / "features.npy").read_bytes())
    content[-5] ^= 1
    (directory / "features.npy").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda directory: np.save(directory / "features.npy", np.zeros((40, 2), np.float32)),
        lambda directory: (directory / "features.json").write_text("abc"),
    ],
)
def test_damaged_features_are_computed_again_with_a_warning(tmp_path, capsys, damage):
    expected = compute()
    (directory,) = tmp_path.glob("jaxgan/*/features-simple-moments")
    damage(directory)
    features = compute()
    for name in NAMES:
        np.testing.assert_array_equal(features[name], expected[name])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {directory} is damaged (")
    assert line.endswith(") and made anew")
    compute()
    assert capsys.readouterr().err == ""


def test_features_that_cannot_be_kept_are_computed(tmp_path, capsys, monkeypatch):
    (tmp_path / "jaxgan").write_text("no directory")
    monkeypatch.setattr("jaxgan.core.files._writable", lambda caches: tmp_path / "jaxgan")
    features = compute()
    assert features["simple/moments"].shape == (50, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the features of a test are not kept: ")


def test_a_disk_that_fills_up_on_the_way(monkeypatch, capsys):
    def refuse(path, content):
        raise OSError(28, "No space left on device")

    expected = compute(weights="other")
    monkeypatch.setattr("jaxgan.core.array_file.atomic_write", refuse)
    features = compute()
    for name in NAMES:
        np.testing.assert_array_equal(features[name], expected[name])
    assert capsys.readouterr().err.count("warning: the features of a test are not kept: [Errno 28]") == 1


def test_everything_that_changes_features_has_a_place_of_its_own():
    first = compute()["simple/moments"]
    assert not np.array_equal(compute(Counted(seed=1))["simple/moments"], first)
    np.testing.assert_array_equal(compute(indices=np.arange(50)[::-1])["simple/moments"], first[::-1])
    np.testing.assert_allclose(compute(weights="other", scale=2.0)["simple/moments"], 2 * first, rtol=1e-6)
    assert compute(indices=np.arange(20))["simple/moments"].shape == (20, 2)


def test_grey_images_are_three_times_the_grey():
    grey = Counted(channels=1)
    rgb = ArrayDataset(grey.images.repeat(3, axis=-1), grey.labels, 5)
    np.testing.assert_array_equal(compute(grey)["simple/left"], compute(rgb)["simple/left"])


def test_flipped_images():
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


TWO_PROCESSES = """
import numpy as np
from tests.test_features import Counted, compute

for n in (1, 51):  # also where one process has nothing to do
    dataset = Counted(n=n)
    features = compute(dataset, np.arange(n))
    flat = dataset.images.reshape(n, -1)
    np.testing.assert_allclose(features["simple/moments"][:, 0], flat.mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(features["simple/left"], dataset.images[:, :, 0, 0])
print(dataset.read - 51, "images were this process's")
"""


@pytest.mark.slow
def test_two_processes_share_the_work_and_have_all_of_it():
    outputs = run_processes(TWO_PROCESSES)
    assert ["26 images" in outputs[0], "25 images" in outputs[1]] == [True, True]


def test_a_log_file_gets_lines_and_no_bar(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("jaxgan.core.progress.time.monotonic", lambda: now[0])
    with progress(4000, "fakes") as update:
        for now[0] in (10.0, 31.0, 50.0, 62.0):
            update(1000)
    assert capsys.readouterr().err == "fakes: 2,000 of 4,000 images\nfakes: 4,000 of 4,000 images\n"
    with progress(4000, "fakes", show=False) as update:
        now[0] = 100.0
        update(4000)
    assert capsys.readouterr().err == ""
