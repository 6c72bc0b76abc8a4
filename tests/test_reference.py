"""Statistics of reals in a file: what pytorch-fid, ADM and we write is read, and says the same as the images."""

import numpy as np
import pytest

import jaxgan
from jaxgan.commands import evaluate as command
from jaxgan.core.errors import ConfigError
from jaxgan.evaluation import Evaluator, Protocol
from jaxgan.evaluation.features import FeatureExtractor
from jaxgan.evaluation.metrics.frechet import Gaussian
from jaxgan.evaluation.networks import NETWORKS
from jaxgan.evaluation.reference import SPATIAL, read_statistics, write_statistics


def images(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def reals(tmp_path_factory):
    path = tmp_path_factory.mktemp("reals") / "reals.npz"
    np.savez(path, images=images(30, 0))
    return path


@pytest.fixture
def their_file(tmp_path):
    """What pytorch-fid saves, of the features of our own classifier: np.mean and np.cov."""
    extractor = FeatureExtractor({"cifar": NETWORKS["cifar"](None)}, ["cifar/pool"], batch_size=8)
    dataset = jaxgan.ArrayDataset(images(30, 0))
    rows = np.concatenate([part["cifar/pool"] for part in extractor.from_images(dataset, np.arange(30))])
    np.savez_compressed(tmp_path / "theirs.npz", mu=np.mean(rows, axis=0), sigma=np.cov(rows, rowvar=False))
    return tmp_path / "theirs.npz"


@pytest.mark.slow
def test_a_file_says_what_the_images_say(their_file, reals, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fakes, ours = images(20, 1), tmp_path / "new" / "ours.npz"
    few = dict(batch_size=8, show_progress=False)  # a batch is always full
    expected = jaxgan.evaluate(fakes, images(30, 0), ["fd_cifar"], **few)["fd_cifar"]
    assert expected > 0
    assert command.main([f"--reals={reals}", "--metrics=fd_cifar", f"--save_reference={ours}"]) == 0
    assert capsys.readouterr().out == f"mu and sigma of 30 images (cifar/pool): {ours}\n"
    for file in (their_file, ours):
        value = jaxgan.evaluate(fakes, file, ["fd_cifar"], **few)["fd_cifar"]
        assert value == pytest.approx(expected, rel=1e-5)
    np.savez(tmp_path / "fakes.npz", images=fakes)
    assert command.main([f"--images={tmp_path / 'fakes.npz'}", "--metrics=fd_cifar", f"--reals={ours}"]) == 0
    table = capsys.readouterr().out
    assert f"reals      mu and sigma in {ours}" in table
    assert "n_real     30" in table
    assert "worth      the _cifar scores are by a classifier that knows CIFAR-10 alone" in table


def test_what_is_written_is_read(tmp_path):
    pool, spatial = Gaussian(np.arange(3), np.eye(3)), Gaussian(np.zeros(2), 2 * np.eye(2))
    write_statistics(tmp_path / "f.npz", {"inception/pool": pool, SPATIAL: spatial}, 7)
    with np.load(tmp_path / "f.npz") as file:
        assert set(file) == {"mu", "sigma", "mu_s", "sigma_s", "features", "n"}
    read = read_statistics(tmp_path / "f.npz")
    assert read.n == 7
    np.testing.assert_array_equal(read.of("inception/pool", 3).mean, pool.mean)
    np.testing.assert_array_equal(read.of(SPATIAL, 2).covariance, spatial.covariance)
    with pytest.raises(ValueError, match="has inception/pool, inception/spatial, not dinov2/pool"):
        read.of("dinov2/pool", 3)
    np.savez(tmp_path / "images.npz", images=images(2, 0))
    assert read_statistics(tmp_path / "images.npz") is None


@pytest.mark.parametrize(
    ("arrays", "metric", "message"),
    [
        (dict(mu=np.zeros(5), sigma=np.eye(5)), "fd_cifar", "has a mu of 5 numbers; cifar/pool has 256"),
        (dict(mu=np.zeros(256)), "fd_cifar", "holds no statistics that can be read: it lacks sigma$"),
        (dict(mu=np.zeros(256), sigma=np.full((256, 256), np.nan)), "fd_cifar", "must be finite"),
        (dict(mu=np.zeros(256), sigma=np.eye(256)), "prdc_cifar", "prdc_cifar compares images, of which"),
        (dict(mu=np.zeros(256), sigma=np.eye(256), features="inception/pool"), "fd_cifar", "not cifar/pool"),
        (dict(mu=np.array([{}], object), sigma=np.eye(2)), "fd_cifar", "cannot be|can be read: Object arrays"),
    ],
)
def test_statistics_that_do_not_fit(tmp_path, arrays, metric, message):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(ConfigError, match=rf"^reals='.*f\.npz': .*{message}") as error:
        jaxgan.evaluate(images(40, 1), tmp_path / "f.npz", [metric], show_progress=False)
    assert "\n" not in str(error.value)


def test_what_has_no_statistics_is_not_saved(reals, tmp_path, capsys):
    for typed, message in (
        (["--metrics=prdc_cifar"], "--metrics='prdc_cifar': is no Fréchet distance"),
        (["--metrics=fd_cifar", "--neighbours=x.png"], "--neighbours="),
        ([], "--metrics is not given"),
    ):
        assert command.main([f"--reals={reals}", f"--save_reference={tmp_path}/f.npz", *typed]) == 2
        assert message in capsys.readouterr().err
    assert command.main([f"--reals={reals}", "--save_reference=f.txt", "--metrics=fd_cifar"]) == 2
    assert "--save_reference='f.txt': name a FILE.npz" in capsys.readouterr().err
    evaluator = Evaluator(["fd_cifar"], Protocol(num=40), jaxgan.ArrayDataset(images(60, 0)))
    assert list(evaluator.real_gaussians()) == ["cifar/pool"]
    assert not list(tmp_path.iterdir())
