"""The classifier that ships with the package: its file and outputs, and the tool that trains it, on tiny sets."""

import functools
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core import rng
from jaxgan.evaluation.networks import cifar
from tests.helpers import load_tool

TINY = cifar.CifarNet(widths=(8, 16))
apply, apply_folded = jax.jit(TINY.apply), jax.jit(TINY.clone(folded=True).apply)


tool = load_tool("train_cifar_classifier")


@pytest.fixture(scope="module")
def shipped():
    return cifar.load()


@pytest.fixture(scope="module")
def describe(shipped):
    return jax.jit(shipped.apply)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def unfolded(images):
    """Variables of a tiny net whose batch norm is anything but the identity."""
    shapes = jax.eval_shape(TINY.init, jax.random.key(0), images)
    draw = np.random.default_rng(1)
    return {
        "params": jax.tree.map(lambda a: 0.3 * draw.normal(size=a.shape).astype(np.float32), shapes["params"]),
        "batch_stats": jax.tree.map(
            lambda a: draw.uniform(0.2, 1.0, a.shape).astype(np.float32), shapes["batch_stats"]
        ),
    }


def test_the_shipped_file():
    assert cifar.WEIGHTS.stat().st_size <= 5_000_000
    notes = cifar.metadata()
    assert 0.90 <= notes["accuracy"] <= 1.0
    assert notes["data"]
    assert notes["recipe"] == json.loads(json.dumps(tool.SETTINGS))


def test_outputs(shipped, describe, images):
    outputs = describe(shipped.variables, images)
    assert {name: (a.shape, a.dtype) for name, a in outputs.items()} == {
        "pool": ((6, 256), jnp.float32),
        "logits": ((6, 10), jnp.float32),
    }
    assert np.all(outputs["pool"] >= 0.0)
    head = shipped.variables["head"]
    np.testing.assert_allclose(outputs["pool"] @ head["kernel"] + head["bias"], outputs["logits"], rtol=1e-4, atol=1e-4)
    assert len(cifar.CLASSES) == 10
    assert shipped.weights == hashlib.sha256(cifar.WEIGHTS.read_bytes()).hexdigest()


def test_an_image_is_described_alike_in_any_batch(shipped, describe, images):
    together = describe(shipped.variables, images)
    alone = [describe(shipped.variables, image[None]) for image in images]
    again = describe(cifar.load().variables, images)
    for name, rows in together.items():
        np.testing.assert_allclose(np.concatenate([a[name] for a in alone]), rows, rtol=1e-4, atol=1e-4)
        assert np.array_equal(rows, again[name])


def test_multiply_adds_are_few(shipped, images):
    cost = jax.jit(shipped.apply).lower(shipped.variables, images[:1]).cost_analysis()
    assert cost["flops"] / 2 < 150e6


def test_a_flipped_image_is_described_alike(shipped, describe, images):
    outputs, flipped = (describe(shipped.variables, x) for x in (images, images[:, :, ::-1]))
    for name, rows in outputs.items():
        np.testing.assert_allclose(flipped[name], rows, rtol=1e-5, atol=1e-5)


def test_other_sizes_are_resized(shipped, describe, images):
    """An enlargement by whole pixels says nearly the same, a constant image exactly the same."""
    smooth = np.asarray(jax.image.resize(images[:, ::8, ::8].astype(np.float32), (6, 32, 32, 3), "cubic"))
    smooth = np.clip(smooth, 0, 255).astype(np.uint8)
    smooth[0] = 77
    small, large = (describe(shipped.variables, x)["pool"] for x in (smooth, smooth.repeat(2, 1).repeat(2, 2)))
    np.testing.assert_allclose(small[0], large[0], rtol=1e-3, atol=1e-3)
    assert np.mean(np.square(small - large)) < 0.02 * np.mean(np.square(small - small.mean(axis=0)))


def test_folded_is_the_same_function(unfolded, images):
    expected = apply(unfolded, images)
    folded = apply_folded({"params": cifar.fold(unfolded)}, images)
    for name, rows in expected.items():
        np.testing.assert_allclose(folded[name], rows, rtol=1e-4, atol=1e-5)


def test_file_round_trip(unfolded, images, tmp_path):
    params, notes = cifar.fold(unfolded), {"accuracy": 0.5, "recipe": {"epochs": 1}}
    cifar.save(tmp_path / "net.npz", params, notes)
    loaded = cifar.load(tmp_path / "net.npz")
    rounded = jax.tree.map(lambda a: np.asarray(a, np.float16).astype(np.float32), params)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, rounded))
    assert cifar.metadata(tmp_path / "net.npz") == notes
    views = [apply_folded({"params": rounded}, x) for x in (images, images[:, :, ::-1])]
    for name, rows in jax.jit(loaded.apply)(loaded.variables, images).items():
        np.testing.assert_allclose(rows, (views[0][name] + views[1][name]) / 2, rtol=1e-5, atol=1e-6)


def test_whitening(images):
    """Patches have variance 1 and no correlation, up to epsilon; the other half of the channels is the negative."""
    layer = tool.whitening(images, epsilon=0.0)
    x = images / 127.5 - 1.0
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))  # [B, 31, 31, 3, 2, 2]
    out = np.einsum("bhwcij,ijco->bhwo", windows, layer["kernel"]).reshape(-1, cifar.WHITENED) + layer["bias"]
    np.testing.assert_allclose(out[:, :12], -out[:, 12:], atol=1e-4)
    np.testing.assert_allclose(out.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.cov(out[:, :12], rowvar=False), np.eye(12), atol=1e-3)


def test_augmentation_flips_every_other_epoch(images):
    """Each image is a window of the original or of its flip, in the next epoch of the other one."""
    index, key = jnp.arange(6), jax.random.key(0)
    augment = jax.jit(tool.augment)
    first, second = (np.asarray(augment(images, index, epoch, 7, key)) for epoch in (0, 1))
    place = rng.randint(rng.example_keys(rng.stream_key(key, tool.Stream.SHIFT, 7), index), 25)
    for one, other, image, p in zip(first, second, images, np.asarray(place)):
        versions = [np.pad(x, ((2, 2), (2, 2), (0, 0)), mode="reflect") for x in (image, image[:, ::-1])]
        windows = [x[p // 5 : p // 5 + 32, p % 5 : p % 5 + 32] for x in versions]
        assert any(np.array_equal(one, a) and np.array_equal(other, b) for a, b in (windows, windows[::-1]))
    assert np.array_equal(augment(images[::-1], index[::-1], 0, 7, key), first[::-1])


@pytest.mark.long
def test_training_learns():
    """Ten flat colours, a class each."""
    colours = np.random.default_rng(1).integers(0, 256, (10, 1, 1, 3))
    noise = np.random.default_rng(2).integers(-20, 21, (80, 32, 32, 3))
    labels = np.arange(80) % 10
    images = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)
    settings = tool.SETTINGS | {"epochs": 4, "batch_size": 16}
    losses = [loss for loss, _ in tool.train(TINY, images, labels, settings)]
    assert losses[-1] < 0.9 * losses[0]


def test_statistics_are_those_of_the_batches(unfolded, images):
    """With them, a network normalises the only batch as in training."""
    variables = tool.with_statistics(TINY, unfolded["params"], images, batch_size=6)
    in_training = jax.jit(functools.partial(TINY.apply, train=True, mutable=["batch_stats"]))
    expected, _ = in_training(variables, images)
    np.testing.assert_allclose(apply(variables, images)["logits"], expected["logits"], rtol=1e-3, atol=1e-3)


def test_first_step_of_the_optimizer():
    """A kernel's update is nearly the rate times a matrix with orthonormal columns, whatever the gradient's size."""
    draw = np.random.default_rng(5)
    gradients = {"conv00": {"kernel": jnp.asarray(100.0 * draw.normal(size=(3, 3, 16, 8)), jnp.float32)}}
    gradients |= {"norm00": {"bias": jnp.ones(2)}, "head": {"bias": jnp.ones(2)}}
    settings = tool.SETTINGS | {"weight_decay": 0.0}
    optimize = tool.optimizer(settings, steps=100)
    updates, _ = optimize.update(gradients, optimize.init(gradients), gradients)
    values = np.linalg.svd(updates["conv00"]["kernel"].reshape(-1, 8), compute_uv=False) / settings["kernel_rate"]
    assert np.all((values > 0.6) & (values < 1.3))
    step = 1.85 * settings["learning_rate"]  # 1 + momentum times the rate
    np.testing.assert_allclose(updates["norm00"]["bias"], -step * 64, rtol=1e-5)
    np.testing.assert_allclose(updates["head"]["bias"], -step / 9, rtol=1e-5)


def test_filters_of_norm_one(unfolded):
    params = unfolded["params"]
    scaled = tool.unit_filters(params)
    for name, layer in scaled.items():
        if name.startswith("conv"):
            np.testing.assert_allclose(np.mean(np.sum(np.square(layer["kernel"]), (0, 1, 2))), 1.0, rtol=1e-5)
        else:
            assert jax.tree.all(jax.tree.map(np.array_equal, layer, params[name]))
