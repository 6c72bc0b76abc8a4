"""Scores that need no network: patches of the Laplacian pyramid (swd), MS-SSIM within a class, colourfulness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

import jaxgan
from jaxgan.core.errors import ConfigError
from jaxgan.evaluation.metrics.colourfulness import colourfulness
from jaxgan.evaluation.metrics.msssim import C1, C2, WEIGHTS, ms_ssim, msssim_within_classes
from jaxgan.evaluation.metrics.sliced import DIRECTIONS, normalised, sliced_wasserstein, swd
from jaxgan.evaluation.networks import NETWORKS, patches


@jax.jit
def pyramid_of(images):
    return NETWORKS["patches"](None).apply({}, images)["pyramid"]


def pictures(n=64, size=32, channels=3, seed=0):
    """Returns smooth random images, uint8 [n, size, size, channels]."""
    noise = np.random.default_rng(seed).normal(size=(n, size, size, channels))
    smooth = 5 * ndimage.gaussian_filter(noise, (0, 2, 2, 0)) + ndimage.gaussian_filter(noise, (0, 1, 1, 0))
    return np.uint8(np.clip(127.5 + 60 * smooth, 0, 255))


def test_the_pyramid_is_that_of_scipy_and_adds_up_to_the_image():
    images = np.float32(pictures(2, 64))
    taps = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[None, :, :, None] / 256
    first, second, third = jax.device_get(jax.jit(patches.laplacian_pyramid)(images))
    rest = images
    for level in (first, second):
        coarse = ndimage.convolve(rest, taps, mode="mirror")[:, ::2, ::2]
        wide = np.zeros_like(rest)
        wide[:, ::2, ::2] = coarse
        np.testing.assert_allclose(level, rest - ndimage.convolve(wide, 4 * taps, mode="mirror"), atol=1e-3)
        rest = coarse
    np.testing.assert_allclose(third, rest, atol=1e-3)


@pytest.mark.parametrize(("shape", "levels"), [((8, 8, 3), ["8"]), ((31, 64, 3), ["31"]), ((33, 64, 4), ["33", "17"])])
def test_patches_are_of_the_image_alone(shape, levels):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    rows = np.asarray(pyramid_of(images))
    alone = np.asarray(pyramid_of(images[2:3]))
    np.testing.assert_array_equal(rows[2:3], alone)
    found = patches.unpack(rows)
    assert list(found) == levels
    assert all(x.shape == (4, patches.PATCHES, 49, shape[2]) for x in found.values())
    if len(levels) == 1:  # each patch is somewhere in its image
        windows = np.lib.stride_tricks.sliding_window_view(images[0], (7, 7, shape[2])).reshape(-1, 49, shape[2])
        assert all((windows == patch).all((1, 2)).any() for patch in found[levels[0]][0])
    small = np.zeros((2, 6, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="7x7 pixels take images of that size"):
        pyramid_of(small)
    with pytest.raises(ConfigError, match=r"^metrics=swd: patches of 7x7 pixels take images of that size .*not 6x32$"):
        jaxgan.evaluate(small, small, ["swd"])


def test_sliced_wasserstein_in_closed_form():
    """A shift by v has the distance E|<u, v>| over unit vectors u, sqrt(2 / (pi d)) |v| for many dimensions."""
    rows = np.random.default_rng(0).normal(size=(500, 147)).astype(np.float32)
    assert sliced_wasserstein(rows, rows) == 0
    assert sliced_wasserstein(rows, rows[::-1]) < 1e-6
    shift = np.zeros(147, np.float32)
    shift[3] = 2.0
    expected = 2 * np.sqrt(2 / (np.pi * 147))
    assert sliced_wasserstein(rows, rows + shift) == pytest.approx(expected, rel=3 / np.sqrt(4 * DIRECTIONS))
    with pytest.raises(ValueError, match="equally many rows"):
        sliced_wasserstein(rows, rows[1:])


def test_patches_are_normalised_by_channel():
    rows = normalised(np.random.default_rng(0).normal(3.0, 5.0, (50, 16, 49, 3))).reshape(-1, 49, 3)
    np.testing.assert_allclose(rows.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std((0, 1)), 1, atol=1e-5)
    assert np.isfinite(normalised(np.full((2, 4, 49, 3), 7.0))).all()


@pytest.mark.slow
def test_swd_orders_what_is_done_to_images():
    """Images against others of their kind, less and more blurred, and with more and more noise."""
    images, others = pictures(128), pictures(128, seed=1)
    draw = np.random.default_rng(2)

    def value(changed):
        return jaxgan.evaluate(np.uint8(np.clip(changed, 0, 255)), others, ["swd"], show_progress=False)

    def blur(sigma):
        return ndimage.gaussian_filter(np.float64(images), (0, sigma, sigma, 0))

    def noisy(deviation):
        return images + draw.normal(0, deviation, images.shape)

    assert set(value(images)) == {"swd", "swd_at_32", "swd_at_16"}
    for worse in ((images, blur(0.5), blur(1.0), blur(2.0)), (images, noisy(5), noisy(20), noisy(80))):
        scores = [value(changed)["swd"] for changed in worse]
        assert scores == sorted(scores)
        assert scores[-1] > 1.5 * scores[0]
    assert value(others)["swd"] == 0


def test_swd_takes_as_many_of_the_larger_set():
    fakes = patches.unpack(np.asarray(pyramid_of(pictures(20))))
    mean, each = swd(fakes, {level: x[::2] for level, x in fakes.items()})
    assert mean == np.mean(list(each.values())) > 0
    with pytest.raises(ValueError, match="levels 32, 16 and 32 cannot be compared"):
        swd(fakes, {"32": fakes["32"]})


def ms_ssim_naively(a, b):
    """Returns MS-SSIM of two grey images of 176 pixels or more, as Wang et al. write it down."""
    at = np.arange(11) - 5
    window = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def filtered(x):
        return signal.correlate2d(x, window, "valid")

    result = 1.0
    for scale, weight in enumerate(WEIGHTS):
        mu_a, mu_b = filtered(a), filtered(b)
        var_a, var_b, cov = filtered(a * a) - mu_a**2, filtered(b * b) - mu_b**2, filtered(a * b) - mu_a * mu_b
        structure = (2 * cov + C2) / (var_a + var_b + C2)
        luminance = (2 * mu_a * mu_b + C1) / (mu_a**2 + mu_b**2 + C1)
        result *= (structure * luminance if scale == 4 else structure).mean() ** weight
        a, b = (x.reshape(len(x) // 2, 2, -1, 2).mean((1, 3)) if scale < 4 else x for x in (a, b))
    return result


def test_ms_ssim_is_that_of_the_paper():
    images = np.float64(pictures(4, 192, 1))
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 30, images.shape), 0, 255)
    expected = [ms_ssim_naively(a[..., 0], b[..., 0]) for a, b in zip(images, noisy, strict=True)]
    np.testing.assert_allclose(ms_ssim(images, noisy), expected, rtol=1e-9)
    assert 0.2 < expected[0] < 0.99


@pytest.mark.parametrize("size", [1, 8, 16, 32, 45])
def test_ms_ssim_in_closed_form(size):
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3))
    np.testing.assert_allclose(ms_ssim(images, images), 1.0, rtol=1e-12)
    a, b = np.full_like(images, 50), np.full_like(images, 200)  # no contrast: luminance at the last scale alone
    weights = WEIGHTS[: min(5, int(np.log2(size)) + 1)]
    total = 1 if len(weights) == 5 else weights.sum()  # the paper's five sum to 1.0001
    luminance = (2 * 50 * 200 + C1) / (50**2 + 200**2 + C1)
    np.testing.assert_allclose(ms_ssim(a, b), luminance ** (weights[-1] / total), rtol=1e-9)


def test_msssim_is_within_classes():
    """One class repeats a picture; the other is noise; the third has a single image and no pair."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    images = np.concatenate([np.repeat(pictures(1), 20, axis=0), noise, noise[:1]])
    labels = np.repeat([0, 1, 2], [20, 20, 1])
    mean, each = msssim_within_classes(images, labels)
    assert list(each) == [0, 1]
    assert each[0] == pytest.approx(1)
    assert 0 <= each[1] < 0.1
    assert mean == pytest.approx((each[0] + each[1]) / 2)
    assert msssim_within_classes(images[:20], None) == (pytest.approx(1), {})
    with pytest.raises(ValueError, match="no class has two images"):
        msssim_within_classes(images[:2], np.array([0, 1]))


@pytest.mark.slow
def test_msssim_of_a_set_takes_no_reals_and_any_size():
    dataset = jaxgan.ArrayDataset(pictures(40, 150), np.arange(40) % 2)
    values = jaxgan.evaluate(dataset, metrics=["msssim"], batch_size=20, show_progress=False)
    assert set(values) == {"msssim", "msssim_of_class_0", "msssim_of_class_1"}
    assert 0 < values["msssim"] < 0.5
    small = patches.unpack_images(np.asarray(NETWORKS["pixels"](None).apply({}, jnp.zeros((2, 150, 300, 3)))["small"]))
    assert small.shape == (2, 64, 128, 3)


def test_colourfulness_in_closed_form():
    """Half of the pixels are one colour and half its opposite; one colour alone; grey of any texture."""
    mixed = np.zeros((1, 8, 8, 3))
    mixed[:, :4, :, 0], mixed[:, 4:, :, 1] = 90, 90  # rg = 90 and -90, yb = 45
    assert colourfulness(mixed)[0] == pytest.approx(90 + 0.3 * 45)
    blue = np.full((1, 8, 8, 3), [20, 20, 60])
    assert colourfulness(blue)[0] == pytest.approx(0.3 * 40)
    images = np.float64(pictures(5))
    np.testing.assert_allclose(colourfulness(np.repeat(images[..., :1], 3, axis=-1)), 0, atol=1e-9)
    np.testing.assert_allclose(colourfulness(images / 3), colourfulness(images) / 3)
    shuffled = images.reshape(5, -1, 3)[:, np.random.default_rng(0).permutation(32 * 32)].reshape(images.shape)
    np.testing.assert_allclose(colourfulness(shuffled), colourfulness(images))


def test_colourfulness_of_a_set_takes_no_reals_and_grey_images():
    images = pictures(6)
    values = jaxgan.evaluate(jaxgan.ArrayDataset(images), metrics=["colourfulness"], show_progress=False)
    assert values == {"colourfulness": pytest.approx(colourfulness(images).mean())}
    grey = jaxgan.ArrayDataset(images[..., :1])
    assert jaxgan.evaluate(grey, metrics=["colourfulness"], show_progress=False) == {"colourfulness": 0.0}


def test_networks_without_weights_look_at_some_images_of_a_large_set(monkeypatch):
    network = NETWORKS["patches"](None)
    monkeypatch.setitem(NETWORKS, "patches", lambda file: network._replace(most=10))
    evaluator = jaxgan.evaluation.Evaluator(
        ["swd", "msssim"], jaxgan.evaluation.Protocol(num=30), jaxgan.ArrayDataset(pictures(40)), show_progress=False
    )
    features = evaluator.extract(jaxgan.ArrayDataset(pictures(30, seed=1)))
    assert {name: len(x.features) for name, x in features.items()} == {"patches/pyramid": 10, "pixels/small": 30}
    assert evaluator.compute(features)["swd"] > 0
    np.testing.assert_array_equal(features["patches/pyramid"].features[-1], pyramid_of(pictures(30, seed=1)[-1:])[0])
