"""Every score by its name, on a stand-in for each network: what it needs, what it returns, on any number of devices."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core.errors import ConfigError
from jaxgan.data.decoding import Decoded
from jaxgan.evaluation import evaluator as scores
from jaxgan.evaluation import features
from jaxgan.evaluation.evaluator import METRICS, Evaluator, Protocol
from jaxgan.evaluation.networks import Extractor, cifar
from jaxgan.gan.state import create_state, make_nets
from jaxgan.sampling.generator import Generator
from jaxgan.settings import default_config

N = 48


@pytest.fixture(autouse=True)
def _small(tmp_path_factory, monkeypatch):
    """Linear maps of the pixels instead of the networks; small least numbers; a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(features, "CHUNK", 2)

    logits = (10, 0, 10, 30)  # of inception, dinov2, cifar, digits

    def stand_in(seed):
        def apply(variables, images):
            x = images.reshape(len(images), -1).astype(jnp.float32) / 255.0
            rows = variables["matrix"][: x.shape[1]]
            return {"pool": x @ rows[:, :4], "spatial": x @ rows[:, 4:7], "logits": x @ rows[:, : logits[seed]]}

        matrix = np.random.default_rng(seed).normal(size=(192, 30)).astype(np.float32)
        return Extractor("stand-in", apply, {"matrix": matrix}, f"weights {seed}", "none")

    names = enumerate(scores.EXTRACTORS)
    monkeypatch.setattr(scores, "EXTRACTORS", {name: lambda file, seed=i: stand_in(seed) for i, name in names})
    for name, options in {
        "kid": dict(subsets=5, subset_size=10),
        "frechet_infinity": dict(smallest=20, sizes=3),
    }.items():
        monkeypatch.setattr(scores, name, functools.partial(getattr(scores, name), **options))


def images(n=N, seed=0, labelled=True):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
    return Decoded(values, (np.arange(n) % 4).astype(np.int32), 4 if labelled else 0)


def evaluator(metrics, reals=None, **protocol):
    result = Evaluator(metrics, Protocol(**({"num": N} | protocol)), active=False)
    if reals is not None:
        result.compare_with(reals, "a set")
    return result


@pytest.fixture(scope="module")
def generator():
    config = default_config()
    config.data.name, config.data.image_size = "stacked_digits", 8
    config.data.channels, config.data.num_classes = 3, 4
    config.model.name, config.model.z_dim, config.model.conditional = "mlp", 8, True
    config.model.g_channels, config.model.d_channels = (16, 16), (8, 8)
    state = create_state(make_nets(config), jax.random.key(0))
    return Generator(config, state.ema, 0)


def test_every_metric_gives_finite_numbers_under_its_names():
    result = evaluator(METRICS, images()).score_images(images(seed=1))
    for name, metric in METRICS.items():
        assert all(math.isfinite(result[key]) for key in metric.names), name
    of_classes = {f"{kind}_of_{c}_cifar" for kind in ("share", "accuracy") for c in cifar.CLASSES}
    per_class = {f"{fid}_of_class_{i}{end}" for fid, end in (("fid", ""), ("fd", "_cifar")) for i in range(4)}
    assert of_classes | per_class <= set(result)
    assert sum(result[f"share_of_{c}_cifar"] for c in cifar.CLASSES) == pytest.approx(1.0)


def test_a_set_with_itself():
    reals = images()
    result = evaluator(("fid", "sfid", "fd_cifar", "fd_dinov2", "fid_per_class", "prdc", "authpct"), reals)
    result = result.score_images(reals)
    for name in ("fid", "sfid", "fd_cifar", "fd_dinov2", "fid_per_class"):
        assert result[name] == pytest.approx(0.0, abs=1e-6)
    assert result["precision"] == result["recall"] == result["coverage"] == 1.0
    assert result["authpct"] == 0.0


def test_mirrored_reals_count():
    reals = images()
    plain, flipped = (evaluator(("fid",), reals, flips=flips) for flips in (False, True))
    assert plain.score_images(reals)["fid"] == pytest.approx(0.0, abs=1e-6)
    assert flipped.score_images(reals)["fid"] > 1e-3
    assert [e.describe()["n_real"] for e in (plain, flipped)] == [N, 2 * N]


def test_some_of_the_reals_are_from_all_over_the_set():
    some = evaluator(("fid",), images(), num_real=3)
    assert some.describe()["n_real"] == 3
    np.testing.assert_array_equal(some._real_indices, [0, 23, 47])


def test_samples_are_those_of_the_generator(generator):
    reals = images()
    direct = evaluator(("fid", "fid_per_class"), reals).score_generator(generator)
    labels = generator.labels(N, 0, reals.labels)
    sampled = Decoded(generator.sample(N, 0, labels), labels, 4)
    again = evaluator(("fid", "fid_per_class"), reals).score_images(sampled)
    assert direct == pytest.approx(again, rel=2e-3)  # a pixel may be rounded the other way


def test_standing_statistics_are_those_of_the_generator(generator):
    running, standing = (evaluator(("fid",), images(), standing_batches=n) for n in (0, 2))
    anew = generator.with_standing_statistics(2)
    assert standing.score_generator(generator) == running.score_generator(anew) != running.score_generator(generator)
    some = np.arange(3)
    np.testing.assert_array_equal(standing.samples(generator, some), running.samples(anew, some))


def test_labels_follow_the_reals(generator):
    labels = generator.labels(2000, 0, np.array([3, 3, 3, 1], np.int32))
    assert set(labels) == {1, 3}
    assert np.mean(labels == 3) == pytest.approx(0.75, abs=0.04)
    np.testing.assert_array_equal(generator.labels(10, 0, np.array([3, 3, 3, 1])), labels[:10])
    assert set(generator.labels(200)) == {0, 1, 2, 3}


def test_eight_devices_give_the_score_of_one(generator, monkeypatch, tmp_path):
    names, reals = ("fid", "kid", "prdc", "is"), images()
    eight = evaluator(names, reals).score_generator(generator)
    first = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # so that the reals are measured again
    one = evaluator(names, reals).score_generator(generator)
    assert eight == pytest.approx(one, rel=1e-3)


def test_neighbours_are_the_nearest_first():
    reals = images()
    fakes = images(seed=1)
    fakes.images[[7, 30]] = reals.images[[40, 2]]  # two copies
    scored = evaluator(("authpct_cifar",), reals)
    scored.score_images(fakes)
    closest, which = scored.neighbours(5)
    assert sorted(closest[:2]) == [7, 30]
    assert dict(zip(closest[:2], which[:2])) == {7: 40, 30: 2}
    with pytest.raises(ConfigError, match="authpct_cifar"):
        evaluator(("is",)).neighbours(3)


def test_bad_input():
    with pytest.raises(ConfigError, match="metrics='fjd': choose one of fid, "):
        evaluator(("fjd",))
    with pytest.raises(ConfigError, match="--num=49: there are 48 images"):
        evaluator(("is",), num=49).check(images())
    small = Decoded(images().images[:, :4, :4], images().labels, 4)
    with pytest.raises(ConfigError, match="images of 4x4 pixels cannot be compared with reals of 8x8 pixels"):
        evaluator(("fid",), images()).check(small)
    with pytest.raises(ConfigError, match="--metrics=accuracy_cifar: takes the classes of the images"):
        evaluator(("accuracy_cifar",)).score_images(images(labelled=False))
    with pytest.raises(ConfigError, match="--num=48: kid takes at least 1000 fakes"):
        evaluator(("kid",), images()).check()


def test_weights_that_cannot_be_had(monkeypatch):
    def load(file):
        raise ValueError(f"{file} is another file")

    monkeypatch.setitem(scores.EXTRACTORS, "inception", load)
    with pytest.raises(ConfigError, match=r"x\.pth is another file"):
        Evaluator(("fid",), Protocol(), {"inception": "x.pth"})
