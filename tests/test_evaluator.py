"""Every metric by its name, on a stand-in for each network: what it needs and returns, on any number of devices."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.data import ArrayDataset, evenly_spaced
from jaxgan.evaluation import (
    METRICS,
    NETWORKS,
    PROTOCOLS,
    Evaluator,
    Metric,
    Protocol,
    check_metrics,
    describe_protocol,
    evaluate,
    higher_is_better,
    registry,
)
from jaxgan.evaluation.networks import FeatureNetwork, cifar
from jaxgan.evaluation.report import require_computed
from jaxgan.sampling.generator import Generator

N = 48


@pytest.fixture(autouse=True)
def _stand_ins(tmp_path_factory, monkeypatch):
    """Linear maps of the pixels instead of the networks, and a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    def stand_in(seed, width):
        def apply(variables, images):
            x = images.reshape(len(images), -1).astype(jnp.float32) / 255.0
            rows = variables["matrix"][: x.shape[1]]
            pool = x @ rows[:, :4]
            return {"pool": pool, "pixels": pool, "spatial": x @ rows[:, 4:7], "logits": x @ rows[:, :width]}

        matrix = np.random.default_rng(seed).normal(size=(192, 30)).astype(np.float32)
        return FeatureNetwork("stand-in", apply, {"matrix": matrix}, f"weights {seed}", "none")

    for seed, (name, width) in enumerate(
        {"inception": 10, "dinov2": 0, "cifar": 10, "digits": 30, "numerals": 10}.items()
    ):
        monkeypatch.setitem(NETWORKS, name, lambda file, seed=seed, width=width: stand_in(seed, width))


class TinyGenerator(nn.Module):
    """A dense layer and batch norm."""

    num_classes: int = 4
    image_size: int = 8
    image_channels: int = 3

    @nn.compact
    def __call__(self, z, labels, *, train, keys):
        x = jnp.concatenate([z, jax.nn.one_hot(labels, max(self.num_classes, 1))], axis=1)
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(192)(x))
        return jnp.tanh(x).reshape(-1, self.image_size, self.image_size, self.image_channels)


def make_generator(**changes):
    module = TinyGenerator(**changes)
    variables = module.init(jax.random.key(0), jnp.zeros((2, 8)), jnp.zeros(2, jnp.int32), train=False, keys=None)
    return Generator(module, variables, z_dim=8)


@pytest.fixture(scope="module")
def generator():
    return make_generator()


def images(n=N, seed=0, labelled=True, classes=4):
    values = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), np.uint8)
    return ArrayDataset(values, np.arange(n) % classes, classes) if labelled else ArrayDataset(values)


def evaluator(metrics, reals=None, batch_size=64, setting=str, **protocol):
    return Evaluator(
        metrics, Protocol(**{"num": N} | protocol), reals, batch_size=batch_size, setting=setting, show_progress=False
    )


def test_a_metric_that_fails_leaves_the_others(monkeypatch):
    def broken(fakes, reference, protocol):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setitem(METRICS, "mine", Metric("cifar/pool", {"mine": True}, broken))
    both, failed = evaluator(["mine", "is_cifar"]), {}
    assert list(both.evaluate(images(), failed)) == ["is_cifar", "is_cifar_std"]
    assert list(failed) == ["mine"]
    with pytest.raises(RunFailed, match=r"^not all metrics could be computed: mine \(ZeroDivisionError: by nothing\)$"):
        require_computed(failed)
    with pytest.raises(ZeroDivisionError):
        both.evaluate(images())


def test_every_metric_gives_finite_numbers_under_its_keys(monkeypatch):
    monkeypatch.setattr(registry, "kid", functools.partial(registry.kid, subsets=2))  # of which it takes a hundred
    slow = [name for name in METRICS if name.startswith(("kid_", "fd_infinity_"))]  # many fakes; as kid, fid_infinity
    names = [name for name in METRICS if name not in slow]
    result = {}
    for n in sorted({max(N, METRICS[name].min_fakes) for name in names}):
        some = [name for name in names if max(N, METRICS[name].min_fakes) == n]
        reals = images(max(N, *(METRICS[name].min_reals for name in some)))
        result |= evaluator(some, reals, num=n, batch_size=256).evaluate(images(n, seed=1))
    for name in names:
        assert all(math.isfinite(result[key]) for key in METRICS[name].keys), name
    for name in slow:
        model = METRICS["kid" if name.startswith("kid_") else "fid_infinity"]
        assert METRICS[name].compute == model.compute
        assert [*METRICS[name].keys.values()] == [*model.keys.values()]
    by_class = {f"{kind}_of_{c}_cifar" for kind in ("fraction", "accuracy") for c in cifar.CLASSES}
    by_class |= {f"{fid}_of_class_{i}{end}" for fid, end in (("fid", ""), ("fd", "_cifar")) for i in range(4)}
    assert by_class <= set(result)
    assert sum(result[f"fraction_of_{c}_cifar"] for c in cifar.CLASSES) == pytest.approx(1.0)


def test_keys_belong_to_one_metric_each():
    keys = [key for metric in METRICS.values() for key in metric.keys]
    assert len(keys) == len(set(keys))
    assert {metric.features.split("/")[0] for metric in METRICS.values()} == set(NETWORKS)


def test_direction():
    assert [higher_is_better(key) for key in ("eval/fid", "fd_cifar", "kid", "eval/is", "recall_dinov2", "modes")] == [
        *(False, False, False, True, True, True)
    ]
    for key in ("eval/kid_std", "eval/fjd"):
        with pytest.raises(ConfigError, match=f"metric='{key[5:]}': choose one of .*fid, .*modes"):
            higher_is_better(key)


def test_a_set_with_itself():
    reals = images()
    names = ("fid", "sfid", "fd_cifar", "fd_dinov2", "fid_per_class", "prdc", "authpct")
    result = evaluator(names, reals).evaluate(reals)
    for name in ("fid", "sfid", "fd_cifar", "fd_dinov2", "fid_per_class"):
        assert result[name] == pytest.approx(0.0, abs=1e-6)
    assert result["precision"] == result["recall"] == result["coverage"] == 1.0
    assert result["authpct"] == 0.0


def test_flipped_reals_count():
    reals = images()
    plain, flipped = (evaluator(("fid",), reals, flips=flips) for flips in (False, True))
    assert plain.evaluate(reals)["fid"] == pytest.approx(0.0, abs=1e-6)
    assert flipped.evaluate(reals)["fid"] > 1e-3
    assert [e.describe()["n_real"] for e in (plain, flipped)] == [N, 2 * N]


def test_some_of_the_reals_are_from_all_over_the_set():
    reals = images()
    some = evaluator(("fid",), reals, num_reals=3, num=3)
    assert some.describe()["n_real"] == 3
    those = ArrayDataset(reals.images[[0, 23, 47]])
    assert some.evaluate(those)["fid"] == pytest.approx(0.0, abs=1e-6)


def test_other_reals_stand_for_the_fakes():
    """They are from all over their set; metrics that take more of them, or other classes, are left out."""
    names = ("fid", "fid_per_class", "is", "accuracy_cifar")  # IS takes 10 images for five splits
    some, others = evaluator(names, images(), num=16, is_splits=5), images(N, seed=1)
    chosen = evenly_spaced(N, 16)
    labelled = ArrayDataset(others.images[chosen], others.labels[chosen], 4)
    expected = some.evaluate(labelled)
    assert some.evaluate_reals(others) == pytest.approx(expected, nan_ok=True)
    assert set(some.evaluate_reals(others, labelled=False)) == {"fid", "is", "is_std"}
    assert some.evaluate_reals(ArrayDataset(others.images[:6])) == {
        "fid": pytest.approx(evaluator(("fid",), images(), num=6).evaluate(ArrayDataset(others.images[:6]))["fid"])
    }


def test_samples_are_those_of_the_generator(generator):
    reals = images()
    direct = evaluator(("fid", "fid_per_class"), reals).evaluate(generator)
    labels = generator.labels(N, 0, reals.labels)
    again = evaluator(("fid", "fid_per_class"), reals).evaluate(ArrayDataset(generator.sample(N, 0, labels), labels, 4))
    assert direct == pytest.approx(again, rel=2e-3)  # a pixel may be rounded the other way


def test_standing_statistics_are_those_of_the_generator(generator):
    running, standing = (evaluator(("fid",), images(), standing_batches=n) for n in (0, 2))
    anew = generator.with_standing_statistics(2)
    assert standing.evaluate(generator) == running.evaluate(anew) != running.evaluate(generator)
    some = np.arange(3)
    np.testing.assert_array_equal(standing.samples(generator, some), running.samples(anew, some))


def test_labels_follow_those_of_the_reals(generator):
    one_class = ArrayDataset(images().images, np.full(N, 3), 4)
    assert set(evaluator(("fid",), one_class).check(generator)) == {3}
    assert set(evaluator(("fid",), images(labelled=False)).check(generator)) == {0, 1, 2, 3}
    assert evaluator(("fid",), images()).check(make_generator(num_classes=0)) is None


def test_other_variables_of_a_module_are_not_the_first_ones(generator):
    other = dataclasses.replace(generator, variables=jax.tree.map(lambda x: 2.0 * x, generator.variables))
    same = evaluator(("fid",), images())
    first = same.evaluate(generator)
    assert same.evaluate(other) != first == same.evaluate(generator)


def test_two_devices_give_the_values_of_one(generator, monkeypatch, tmp_path):
    names, reals = ("fid", "prdc", "is"), images()
    assert jax.local_device_count() > 1
    several = evaluator(names, reals, batch_size=4).evaluate(generator)
    first = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # so that the features of the reals are computed again
    one = evaluator(names, reals, batch_size=4).evaluate(generator)
    assert several == pytest.approx(one, rel=1e-3)


def test_nearest_reals_come_first():
    reals, fakes = images(), images(seed=1)
    fakes.images[[7, 30]] = reals.images[[40, 2]]  # two copies
    comparing = evaluator(("authpct_cifar",), reals)
    closest, which = comparing.nearest_reals(comparing.extract(fakes), 5)
    assert sorted(closest[:2]) == [7, 30]
    assert dict(zip(closest[:2], which[:2])) == {7: 40, 30: 2}
    alone = evaluator(("is",))
    with pytest.raises(ConfigError, match="metrics='is': none compares with reals, as authpct_cifar does"):
        alone.nearest_reals(alone.extract(fakes), 3)


class Unreadable(ArrayDataset):
    """A set of which no image may be read."""

    def get(self, indices):
        raise AssertionError("an image was read")


@pytest.mark.parametrize(
    ("names", "fakes", "reals", "protocol", "message"),
    [
        (("fjd",), {}, {}, {}, "--metrics='fjd': choose one of fid, "),
        (("is",), {}, {}, {"num": 1}, "--num=1: must be a whole number in 2 .. 2147483647"),
        (("is", "is"), {}, {}, {}, "--metrics='is,is': names a metric twice"),
        ((["is"],), {}, {}, {}, r"--metrics=\['is'\]: choose one of fid, "),
        (("is",), {}, {}, {"num": 30.5}, r"--num=30\.5: must be a whole number in 2 \.\. 2147483647"),
        (("is",), {}, {}, {"num_reals": -2}, r"--num_reals=-2: must be a whole number, 0 \(all\) or 2 or above"),
        (("is",), {}, {}, {"num_reals": 2.5}, r"--num_reals=2\.5: must be a whole number"),
        (("is",), {}, {}, {"is_splits": 0}, "--is_splits=0: must be a whole number, 1 or above"),
        (("is",), {}, {}, {"seed": -1}, r"--seed=-1: must be a whole number in 0 \.\. 2147483647"),
        (("is",), {}, {}, {"standing_batches": -1}, "--standing_batches=-1: must be a whole number, 0 or above"),
        (("is",), {}, {}, {"flips": "no"}, "--flips='no': choose True or False"),
        (("is",), {}, {}, {"is_splits": 30}, "--num=48: is takes at least 60 fakes, 2 in each of 30 splits"),
        (("kid",), {}, {}, {}, "--num=48: kid takes at least 1000 fakes"),
        (("kid",), {}, {}, {"num": 1000}, "--reals='reals': kid takes at least 1000 reals, there are 48"),
        (("fid",), {}, {}, {"num_reals": 49}, "--num_reals=49: there are 48 reals"),
        (("fid",), {}, None, {}, "--reals=None: fid compares with reals"),
        (("fid",), {}, {}, {"num": 49}, "--num=49: there are 48 images"),
        (("fid",), {"size": 4}, {}, {}, "--reals='reals': has images of 8x8 pixels, which cannot be"),
        (("accuracy_cifar",), {"labelled": False}, None, {}, "--metrics='accuracy_cifar': takes the classes"),
        (("accuracy_cifar",), {"classes": 11}, None, {}, r"--metrics=accuracy_cifar: labels 0 \.\. 10"),
        (("fid_per_class",), {}, {"labelled": False}, {}, "--reals='reals': have no labels, which fid_per_class takes"),
        (("fid_per_class",), {"classes": 3}, {}, {}, "--metrics=fid_per_class: class 3 has 0 rows and 12"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_read(names, fakes, reals, protocol, message):
    def unreadable(size=8, **changes):
        dataset = images(**changes)
        return Unreadable(dataset.images[:, :size, :size], dataset.labels, dataset.num_classes)

    with pytest.raises(ConfigError, match=message) as error:
        evaluator(names, None if reals is None else unreadable(**reals), setting="--{}".format, **protocol).evaluate(
            unreadable(**fakes)
        )
    assert "\n" not in str(error.value)


def test_four_channels_are_refused_by_networks_of_colours():
    rgba = ArrayDataset(np.zeros((N, 8, 8, 4), np.uint8), alpha=None)
    message = "metrics='is': takes grey images or RGB, and these have 4 channels"
    with pytest.raises(ConfigError, match=message):
        evaluator(("is",)).check(rgba)
    with pytest.raises(ConfigError, match=message):
        evaluator(("is",), rgba)
    grey = evaluator(("is",)).evaluate(ArrayDataset(np.repeat(images().images[..., :1], 3, axis=3)))
    assert evaluator(("is",)).evaluate(ArrayDataset(images().images[..., :1])) == grey


def test_a_generator_that_does_not_fit(generator):
    with pytest.raises(ConfigError, match="reals='reals': have 5 classes, the generator 4"):
        evaluator(("fid",), images(classes=5)).evaluate(generator)
    with pytest.raises(ConfigError, match="metrics='fid_per_class': takes the classes of the images"):
        evaluator(("fid_per_class",), images()).evaluate(make_generator(num_classes=0))


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (
            ("fd_cifar", "modes"),
            {},
            "config.eval.metrics='modes': is defined for the data set stacked_digits only, not cif",
        ),
        (("accuracy_cifar",), {"conditional": False}, "config.eval.metrics='accuracy_cifar': .* unconditional"),
        (("fd_cifar",), {"best_metric": "eval/fid"}, "best_metric='eval/fid': is not among .*: eval/fd_cifar$"),
        (("kid_cifar",), {"best_metric": "eval/kid_cifar_std"}, "better: eval/kid_cifar; nearest: eval/kid_cifar$"),
        ((), {"best_metric": "eval/fid"}, "better: none is evaluated$"),
    ],
)
def test_settings_of_a_run_are_checked_without_its_data(names, arguments, message):
    setting = {"metrics": "config.eval.metrics", "best_metric": "config.checkpoint.best_metric"}
    check = dict(setting=lambda name: setting.get(name, name), data_name="cifar10")
    check_metrics(("fd_cifar", "is_cifar"), Protocol(), **check, best_metric="eval/is_cifar")
    with pytest.raises(ConfigError, match=message):
        check_metrics(names, Protocol(), **check | arguments)


def test_weights_that_cannot_be_had(monkeypatch):
    def load(file):
        raise ValueError(f"{file} is another file")

    monkeypatch.setitem(NETWORKS, "inception", load)
    with pytest.raises(ConfigError, match=r"x\.pth is another file"):
        Evaluator(("is",), weights={"inception": "x.pth"})


def test_evaluate_takes_arrays_paths_sets_and_generators(generator, tmp_path):
    reals, fakes = images(), images(seed=1)
    np.savez(tmp_path / "reals.npz", images=reals.images, labels=reals.labels)
    expected = evaluator(("fid", "is"), reals).evaluate(fakes)
    for a in (fakes, fakes.images):
        for b in (reals, reals.images, tmp_path / "reals.npz", str(tmp_path / "reals.npz")):
            assert evaluate(a, b, ("fid", "is"), show_progress=False) == expected
    assert evaluate(fakes, metrics=["is"], show_progress=False) == {key: expected[key] for key in ("is", "is_std")}
    sampled = evaluate(generator, reals, num=N, show_progress=False)
    assert sampled == evaluator(("fid",), reals).evaluate(generator)
    half = evaluate(generator, reals, num=N, num_reals=24, seed=1, show_progress=False)
    assert half == evaluator(("fid",), reals, num_reals=24, seed=1).evaluate(generator)
    with pytest.raises(ConfigError, match="protocol='C': choose one of studiogan, mimicry, nvidia, compare_gan"):
        evaluate(fakes, reals, protocol="C")
    with pytest.raises(ConfigError, match="seeds=3: choose one of num, "):
        evaluate(fakes, reals, seeds=3)
    with pytest.raises(ConfigError, match="generator_or_images='nowhere': there is no such directory or file"):
        evaluate("nowhere", reals)


@pytest.mark.parametrize(
    ("fakes", "arguments", "message"),
    [
        (None, {}, "^generator_or_images=NoneType: lacks __len__, get, "),
        ([1, 2], {}, "^generator_or_images=list: lacks get, "),
        (images(), dict(reals=[1, 2]), "^reals=list: lacks get, "),
        (images(), dict(metrics=None), "^metrics=None: give some of fid, "),
        (images(), dict(metrics=7), "^metrics=7: give some of fid, "),
        (images(), dict(num=30.5), r"^num=30\.5: must be a whole number in 2 \.\. 2147483647$"),
        (images(), dict(batch_size=0), "^batch_size=0: must be a whole number, 1 or above$"),
        (images(), dict(weights="x.pth"), r"^weights='x\.pth': give files by network"),
    ],
)
def test_what_cannot_be_evaluated(fakes, arguments, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(fakes, **dict(metrics=["is"]) | arguments)


def test_protocols():
    assert PROTOCOLS["mimicry"] == PROTOCOLS["nvidia"] == Protocol()
    for name, protocol in PROTOCOLS.items():
        assert describe_protocol(name, protocol) == name
    changed = PROTOCOLS["studiogan"]._replace(num=10_000, step="newest")
    assert describe_protocol("studiogan", changed) == "studiogan with num=10000, step=newest"


def test_a_run_is_no_set_of_images(tmp_path):
    for name in ("config.json", "data.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=r"^generator_or_images='.*': is a run; give its generator, jaxgan\.load"):
        evaluate(tmp_path, metrics=["modes"])


def test_a_metric_that_is_none_and_one_of_no_network(monkeypatch):
    images = ArrayDataset(np.zeros((4, 8, 8, 3), np.uint8))
    for wrong, words in (
        (abs, r"^METRICS\['mine'\]=.*: give a Metric$"),
        (METRICS["is_cifar"]._replace(features="foo/pool"), r"^METRICS\['mine'\]\.features='foo': choose one of "),
    ):
        monkeypatch.setitem(METRICS, "mine", wrong)
        with pytest.raises(ConfigError, match=words):
            Evaluator(["mine"], Protocol(num=4, is_splits=1)).evaluate(images)


def test_a_feature_that_a_network_does_not_have_is_named(monkeypatch):
    monkeypatch.setitem(METRICS, "mine", METRICS["is_cifar"]._replace(features="cifar/pol"))
    images = ArrayDataset(np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"^metrics=mine: features of cifar='pol': choose one of "):
        Evaluator(["mine"], Protocol(num=4, is_splits=1)).evaluate(images)
