"""Differentiable augmentation against plain numpy, its invariances, and its derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxgan.gan import ada as pipes
from jaxgan.gan.ada import PIPES, SYM6, ada, sample_parameters
from jaxgan.gan.augment import AUGMENTATIONS, Augmentation, diffaugment
from jaxgan.gan.schedules import Schedule
from tests.helpers import random_keys

B, SIDE = 4, 32
KEYS = random_keys(B, 7)
IMAGES = np.random.default_rng(0).uniform(-1.0, 1.0, (B, SIDE, SIDE, 3)).astype(np.float32)
# The parameters of the stages that have many: where one is given, all are, so that a stage is compiled once.
STAGES = (
    dict(xflip=0.0, rotate90=0.0, xint=(0.0, 0.0), scale=0.0, rotate=(0.0, 0.0), aniso=0.0, xfrac=(0.0, 0.0)),
    dict(brightness=0.0, contrast=0.0, lumaflip=0.0, hue=0.0, saturation=0.0),
)
# Waves of at least 13 pixels, a phase a channel: what the filtered resampling must reproduce away from the borders.
WAVES = [(0.31, 0.22, 0.0), (-0.2, 0.4, 1.0), (0.1, -0.45, 2.0)]
MIDDLE = slice(11, 21)


def waves(x, y):
    """Smooth images [..., 3] at pixel positions x, y."""
    return np.stack([0.8 * np.sin(a * x + b * y + c) for a, b, c in WAVES], -1)


def smooth():
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.float32(np.stack([waves(x, y)] * B))


def given(**parameters):
    """The same parameters for every example, [B, n], and zeros for the others of their stages."""
    for stage in STAGES:
        if stage.keys() & parameters.keys():
            parameters = stage | parameters
    return {name: np.tile(np.float32(value), (B, 1)) for name, value in parameters.items()}


transform = jax.jit(pipes.transform)


@functools.cache
def jitted(name):
    return jax.jit(AUGMENTATIONS[name])


@functools.cache
def jitted_diffaugment(policy):
    return jax.jit(functools.partial(diffaugment, policy=policy))


# Whole pipes.


@pytest.mark.parametrize("name", ["diffaugment", "bgcfnc", "r3gan2"])
def test_strength_zero_is_the_identity_bit_for_bit(name):
    images = IMAGES.copy()
    images[0, 0, 0, 0] = -0.0
    assert np.asarray(jitted(name)(KEYS, images, 0.0)).tobytes() == np.asarray(images).tobytes()
    half = images.astype(jnp.bfloat16)
    assert np.asarray(jitted(name)(KEYS, half, 0.0)).tobytes() == np.asarray(half).tobytes()
    assert not np.any(np.all(jitted(name)(KEYS, images, 1.0) == images, axis=(1, 2, 3)))


@pytest.mark.parametrize("name", ["diffaugment", "bgcfnc"])
def test_an_example_does_not_depend_on_its_batch(name):
    whole = jitted(name)(KEYS, IMAGES, 0.8)
    elsewhere = np.array([2, 0, 0, 0])
    here = jitted(name)(KEYS[elsewhere], IMAGES[elsewhere], 0.8)[0]
    np.testing.assert_allclose(here, whole[2], atol=2e-6)
    assert not np.allclose(jitted(name)(KEYS[np.array([1, 0, 0, 0])], IMAGES[elsewhere], 0.8)[0], here, atol=0.01)


def test_where_nothing_fires_pixels_stay_as_they_are():
    keys, pipe = random_keys(64, 1), PIPES["color"]
    images = np.broadcast_to(IMAGES[:1, :8, :8], (64, 8, 8, 3))
    changed, parameters = jax.jit(lambda *x: (ada(*x, 0.1, pipe), sample_parameters(x[0], 0.1, pipe, (8, 8, 3))))(
        keys, images
    )
    kept = np.all(changed == images, axis=(1, 2, 3))
    nothing = np.all([np.all(np.asarray(v) == 0, 1) for v in parameters.values()], 0)
    np.testing.assert_array_equal(kept, nothing)
    assert 0 < kept.sum() < 64


sampled = jax.jit(
    functools.partial(sample_parameters, pipe=PIPES["r3gan"] | PIPES["filter"] | PIPES["noise"], shape=(2, 2, 3))
)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_transforms_fire_with_probability_p(p):
    n = 4000
    parameters = jax.device_get(sampled(random_keys(n, 3), p))
    fired = {name: np.mean(np.any(np.reshape(v, (n, -1)) != 0, 1)) for name, v in parameters.items()}
    halved = {"brightness", "contrast", "lumaflip", "hue", "saturation"}  # in R3GAN's pipe
    for name, share in fired.items():
        expected = p * (0.5 if name in halved else 1.0)
        expected *= {"xflip": 1 / 2, "lumaflip": 1 / 2, "rotate90": 3 / 4}.get(name, 1.0)  # the rest draw the identity
        if name == "imgfilter":
            expected = 1 - (1 - p) ** 4  # any of the bands
        assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / n), name
    stds = dict(scale=0.2, aniso=0.2, xfrac=0.125, brightness=0.2, contrast=0.5, saturation=1.0, imgfilter=1.0)
    stds |= dict(xint=0.125 / 3**0.5, hue=np.pi / 3**0.5, noise=0.1)
    for name, std in stds.items():
        values = np.asarray(parameters[name])
        np.testing.assert_allclose(np.std(values[values != 0]), std, rtol=0.1, err_msg=name)
    np.testing.assert_allclose(np.max(np.abs(parameters["rotate"])), np.pi, rtol=0.01)


def test_a_draw_does_not_depend_on_the_rest_of_the_pipe():
    names, draw = ("rotate", "hue", "noise", "cutout"), functools.partial(sample_parameters, shape=(4, 4, 3))
    every, *each = jax.jit(lambda: [draw(KEYS, 0.7, pipe) for pipe in (PIPES["bgcfnc"], *({n: 1.0} for n in names))])()
    for name, alone in zip(names, each, strict=True):
        np.testing.assert_array_equal(alone[name], every[name])


@pytest.mark.parametrize("name", ["color", "diffaugment"])
def test_colours_leave_transparency_as_it_is(name):
    augment = functools.partial(diffaugment, policy="color") if name == "diffaugment" else AUGMENTATIONS[name]
    rgb, transparency = IMAGES[:4, :8, :8], IMAGES[:4, 8:16, :8, :1]
    images = (np.concatenate([rgb, transparency], axis=3), rgb)
    found, colours = jax.device_get(jax.jit(lambda images: [augment(KEYS, x, 1.0) for x in images])(images))
    np.testing.assert_array_equal(found[..., 3:], transparency)
    np.testing.assert_allclose(found[..., :3], colours, rtol=1e-6, atol=1e-6)


def test_wrong_names_and_shapes():
    with pytest.raises(ValueError, match="no transform zoom"):
        ada(KEYS, IMAGES, 0.5, {"zoom": 1.0})
    with pytest.raises(ValueError, match="2 channels"):
        ada(KEYS, IMAGES[..., :2], 0.5)
    with pytest.raises(ValueError, match="policy='colour'"):
        diffaugment(KEYS, IMAGES, policy="colour")


@pytest.mark.parametrize("name", ["diffaugment", "bgcfnc"])
def test_derivatives_of_a_gradient_penalty(name):
    """T(x) = A x + b, so |grad (|T(x)|^2 / 2)|^2 = |A' (A x + b)|^2 is quadratic: central differences are exact."""
    keys, images, change = KEYS[:2], IMAGES[:2, :12, :12], IMAGES[2:, -12:, -12:]

    @jax.jit
    @jax.value_and_grad
    def penalty(images):
        def critic(x):
            return 0.5 * jnp.sum(jnp.square(AUGMENTATIONS[name](keys, x, 0.9)))

        return jnp.sum(jnp.square(jax.grad(critic)(images)))

    (value, slope), (more, _), (less, _) = map(penalty, (images, images + change, images - change))
    difference = (float(more) - float(less)) / 2
    assert abs(difference) > 0.01 * float(value)
    np.testing.assert_allclose(np.sum(slope * change), difference, rtol=1e-3, atol=1e-5 * float(value))


# Geometry.


def test_the_wavelet_is_orthogonal_with_six_vanishing_moments():
    h, k = SYM6, np.arange(12)
    for n in range(6):
        np.testing.assert_allclose(np.sum(h[: 12 - 2 * n] * h[2 * n :]), float(n == 0), atol=1e-14)
        np.testing.assert_allclose(np.sum((-1.0) ** k * ((k - 5.5) / 5.5) ** n * h), 0.0, atol=1e-14)
    np.testing.assert_allclose(h.sum(), 2**0.5, atol=1e-14)


@pytest.mark.parametrize("shift", [(2, 0), (-3, 4), (4, -4)])
def test_whole_pixel_shifts_are_exact_and_reflect(shift):
    x, y = shift
    padded = np.pad(IMAGES, [(0, 0), (8, 8), (8, 8), (0, 0)], mode="reflect")
    expected = padded[:, 8 - y : 8 - y + SIDE, 8 - x : 8 - x + SIDE]
    np.testing.assert_allclose(transform(IMAGES, given(xint=(x / SIDE, y / SIDE))), expected, atol=2e-6)
    np.testing.assert_allclose(transform(IMAGES, given(xfrac=(x / SIDE, y / SIDE))), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (dict(xflip=1.0), lambda x: x[:, :, ::-1]),
        (dict(rotate90=1.0), lambda x: np.rot90(x, 1, (1, 2))),
        (dict(rotate90=2.0), lambda x: np.rot90(x, 2, (1, 2))),
        (dict(rotate90=3.0), lambda x: np.rot90(x, 3, (1, 2))),
        (dict(rotate=(np.pi / 2, 0.0)), lambda x: np.rot90(x, 1, (1, 2))),
        (dict(rotate=(1.1, np.pi - 1.1)), lambda x: np.rot90(x, 2, (1, 2))),
    ],
)
def test_flips_and_quarter_turns(parameters, expected):
    """Up to the asymmetry of the wavelet: for smooth images a shift by 0.1 pixels, half of that for a quarter turn."""
    middle = (slice(None), MIDDLE, MIDDLE)
    for images, tolerance in ((smooth(), 0.05), (IMAGES, 0.25)):
        error = np.asarray(transform(images, given(**parameters))) - expected(images)
        assert np.std(error[middle]) < tolerance * np.std(images)


@pytest.mark.parametrize(
    "parameters",
    [
        dict(scale=0.3),
        dict(scale=-0.2),
        dict(aniso=0.25),
        dict(rotate=(0.5, 0.0)),
        dict(xfrac=(0.04, -0.09)),
        dict(xflip=1.0, rotate90=1.0, xint=(0.1, -0.05), scale=0.2, rotate=(0.4, -0.3), aniso=0.2, xfrac=(0.05, 0.02)),
    ],
)
def test_positions_that_are_read(parameters):
    """A smooth image is its formula at the transformed positions; the forward maps are composed here, then inverted.

    The wavelet moves an image by its mean delay, and the transposed one back: positions are seen from there.
    """
    delay = (SYM6 @ np.arange(12) / 2**0.5 - 5) / 2  # pixels
    p = {
        "xflip": 0,
        "rotate90": 0,
        "xint": (0, 0),
        "scale": 0,
        "rotate": (0, 0),
        "aniso": 0,
        "xfrac": (0, 0),
    } | parameters

    def turn(angle):
        return np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    def shift(x, y):
        return np.array([[1, 0, x * SIDE], [0, 1, y * SIDE], [0, 0, 1]])

    forward = np.diag([1.0 - 2 * p["xflip"], 1, 1])
    for matrix in (
        turn(p["rotate90"] * np.pi / 2),
        np.round(shift(*p["xint"])),
        np.diag([2 ** p["scale"], 2 ** p["scale"], 1]),
        turn(p["rotate"][0]),
        np.diag([2 ** p["aniso"], 2 ** -p["aniso"], 1]),
        turn(p["rotate"][1]),
        shift(*p["xfrac"]),
    ):
        forward = matrix @ forward
    y, x = np.mgrid[MIDDLE, MIDDLE] - (SIDE - 1) / 2
    x, y, _ = np.einsum("ij,jyx->iyx", np.linalg.inv(forward), np.stack([x + delay, y + delay, np.ones_like(x)]))
    y, x = (at - delay + (SIDE - 1) / 2 for at in (y, x))
    moved = np.asarray(transform(smooth(), given(**parameters)))[0, MIDDLE, MIDDLE]
    np.testing.assert_allclose(moved, waves(x, y), atol=8e-3)  # a straight line between half pixels: 5e-3
    # A higher-order interpolation of the reflected pixels, an independent implementation with the same borders.
    spline = [
        scipy.ndimage.map_coordinates(np.float64(c), [y, x], order=5, mode="mirror")
        for c in smooth()[0].T.swapaxes(1, 2)
    ]
    np.testing.assert_allclose(moved, np.stack(spline, -1), atol=8e-3)


def test_images_that_are_not_square():
    images = IMAGES[:, :20]
    moved = transform(images, given(xint=(3 / 32, 2 / 20)))
    np.testing.assert_allclose(np.asarray(moved)[:, 2:, 3:], images[:, :-2, :-3], atol=2e-6)


# Colour.

GREY = np.ones((3, 3)) / 3


def hue_matrix(angle):
    """Rodrigues' formula for the axis (1, 1, 1) / sqrt(3)."""
    cross = np.cross(np.eye(3), np.ones(3) / 3**0.5).T * -1.0
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


COLORS = {
    "contrast": (0.7, np.eye(3) * 2**0.7),
    "lumaflip": (1.0, np.eye(3) - 2 * GREY),
    "hue": (2.1, hue_matrix(2.1)),
    "saturation": (-0.8, GREY + 2**-0.8 * (np.eye(3) - GREY)),
}


@pytest.mark.parametrize("name", COLORS)
def test_colours_are_matrices(name):
    value, matrix = COLORS[name]
    np.testing.assert_allclose(transform(IMAGES, given(**{name: value})), IMAGES @ matrix.T, atol=2e-6)


def test_colours_in_order():
    expected = IMAGES + np.float32(0.3)
    for name in ("contrast", "lumaflip", "hue", "saturation"):
        expected = expected @ COLORS[name][1].T
    parameters = given(brightness=0.3, **{name: value for name, (value, _) in COLORS.items()})
    np.testing.assert_allclose(transform(IMAGES, parameters), expected, atol=1e-5)
    # A third of a turn about the grey axis sends red to green to blue.
    third = transform(IMAGES, given(hue=2 * np.pi / 3))
    np.testing.assert_allclose(third, np.roll(IMAGES, 1, -1), atol=2e-6)
    grey = IMAGES[..., :1]
    np.testing.assert_allclose(transform(grey, parameters), -(2**0.7) * (grey + 0.3), atol=2e-6)


# Corruptions.


def test_filter_bands():
    """Bands of the sym2 bank: they sum to the identity, halve at octaves' edges, and scale one row by convolution."""
    power = np.array([10, 1, 1, 1]) / 13  # of an image's bands, by which gains are normalised
    # The answer to a vertical line, constant along y, where one band is twice as strong.
    line = np.zeros((4, 101, 101, 1), np.float32)
    line[:, :, 50] = 1.0
    answers = np.asarray(transform(line, {"imgfilter": np.eye(4, dtype=np.float32)}))[:, 50, 50 - 21 : 50 + 22, 0]
    constant = np.array([2, 1, 1, 1])  # along y there is only the lowest band
    taps = answers * ((1 + 3 * power) / constant)[:, None] - np.eye(43)[21]
    np.testing.assert_allclose(taps.sum(0), np.eye(43)[21], atol=1e-6)
    np.testing.assert_allclose(taps, taps[:, ::-1], atol=1e-6)
    frequency = np.array([0.0, np.pi / 8, np.pi / 4, np.pi / 2, np.pi])
    response = taps @ np.cos(np.arange(-21, 22)[:, None] * frequency)
    np.testing.assert_allclose(response[:, 0], [1, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(response[:, -1], [0, 0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(response[3, 3], 0.5, atol=1e-5)
    log2 = np.array([0.5, -1.0, 0.3, 1.2])
    gains = np.ones(4)
    for i in range(4):  # Karras et al. 2020, appendix B: one band after the other, each normalised
        one = np.ones(4)
        one[i] = 2 ** log2[i]
        gains *= one / np.sqrt(np.sum(power * one**2))
    expected = np.asarray(IMAGES, np.float64)
    for axis in (1, 2):
        expected = scipy.ndimage.correlate1d(expected, gains @ taps, axis=axis, mode="mirror")
    np.testing.assert_allclose(transform(IMAGES, given(imgfilter=log2)), expected, atol=1e-5)


def test_noise_is_white_and_of_half_normal_strength():
    noise = jax.jit(lambda *x: ada(*x, 1.0, PIPES["noise"]))(random_keys(500, 5), np.zeros((500, 8, 8, 3), np.float32))
    noise = np.asarray(noise)
    np.testing.assert_allclose(np.sqrt(np.mean(noise**2)), 0.1, rtol=0.1)
    stds = noise.std(axis=(1, 2, 3))
    np.testing.assert_allclose(np.mean(stds < 0.0674), 0.5, atol=0.08)  # the median of |N(0, .1)|
    assert abs(np.corrcoef((noise / stds[:, None, None, None])[:, 0, 0, :2].T)[0, 1]) < 0.2


def test_cutout():
    expected = IMAGES.copy()
    expected[:, 8:24, :8] = 0.0  # centre x = 0: half of it is outside
    np.testing.assert_array_equal(transform(IMAGES, given(cutout=(0.0, 0.5, 0.5))), expected)


def test_holes_filled_with_noise():
    """As cutout with the same keys, but inside there is noise of the mean and deviation of the image's channel."""
    scale, shift = np.float32([0.1, 0.2, 0.3]), np.float32([-0.5, 0.0, 0.5])
    images = scale * np.random.default_rng(7).standard_normal((64, 32, 32, 3), np.float32) + shift
    both = jax.jit(lambda *x: [ada(*x, 1.0, PIPES["cutout"] | more) for more in ({}, {"filling": 1.0})])
    zeros, filled = jax.device_get(both(random_keys(64, 6), images))
    hole = (zeros == 0).all(axis=3)
    np.testing.assert_array_equal(filled[~hole], zeros[~hole])
    np.testing.assert_allclose(filled[hole].mean(axis=0), shift, atol=0.02)
    np.testing.assert_allclose(filled[hole].std(axis=0), scale, rtol=0.05)
    # Also where a channel is constant there are gradients of gradients.
    pipe = {"cutout": 1.0, "filling": 1.0}
    penalty = jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(ada(KEYS, x, 1.0, pipe) ** 3))(x) ** 2))
    assert np.isfinite(jax.jit(penalty)(np.zeros((B, 8, 8, 3), np.float32))).all()


# DiffAugment.


def coefficients(transformed, images):
    """Slope and offset of transformed against images, by least squares, and the largest residual."""
    (slope, offset), *_ = np.linalg.lstsq(np.stack([images, np.ones_like(images)], 1), transformed)
    return slope, offset, np.abs(slope * images + offset - transformed).max()


def test_diffaugment_color():
    n = 200
    image = IMAGES[0, :6, :6]
    augmented = np.asarray(jitted_diffaugment("color")(random_keys(n, 2), np.stack([image] * n)))
    grey, grey_augmented = image.mean(-1), augmented.mean(-1)
    contrasts, brightnesses, saturations = [], [], []
    for i in range(n):
        contrast, _, residual = coefficients(grey_augmented[i].ravel(), grey.ravel())
        assert residual < 1e-5
        chroma = (image - grey[..., None]).ravel()
        saturation, _, residual = coefficients((augmented[i] - grey_augmented[i][..., None]).ravel(), chroma)
        assert residual < 1e-5
        contrasts.append(contrast)
        saturations.append(saturation / contrast)
        brightnesses.append(augmented[i].mean() - image.mean())
    for values, low, high in ((contrasts, 0.5, 1.5), (saturations, 0.0, 2.0), (brightnesses, -0.5, 0.5)):
        assert low - 1e-5 <= min(values) < low + 0.1 * (high - low)
        assert high + 1e-5 >= max(values) > high - 0.1 * (high - low)
        np.testing.assert_allclose(np.mean(values), (low + high) / 2, atol=4 * (high - low) / np.sqrt(12 * n))


def test_diffaugment_translation():
    n, shifts = 300, set()
    image = IMAGES[0, :16, :24]
    padded = np.pad(image, [(2, 2), (3, 3), (0, 0)])
    candidates = {(y, x): padded[y : y + 16, x : x + 24] for y in range(5) for x in range(7)}
    for moved in np.asarray(jitted_diffaugment("translation")(random_keys(n, 4), np.stack([image] * n))):
        matches = [shift for shift, candidate in candidates.items() if np.array_equal(candidate, moved)]
        assert len(matches) == 1
        shifts.update(matches)
    assert len(shifts) == 35


def test_diffaugment_cutout_and_probability():
    n = 400
    images, keys = np.ones((n, 8, 10, 3), np.float32), random_keys(n, 6)
    cut = np.asarray(jitted_diffaugment("cutout")(keys, images, 1.0))[..., 0] == 0
    rows, columns = cut.any(2), cut.any(1)
    np.testing.assert_array_equal(cut, rows[:, :, None] & columns[:, None, :])
    # Centres 0..8 of 8 rows, 0..10 - 1 of 10 columns: half of a side (4, and odd 5), less what hangs over.
    assert set(rows.sum(1)) == {2, 3, 4}
    assert set(columns.sum(1)) == {3, 4, 5}
    assert np.all(np.abs(np.diff(rows.astype(int), axis=1)).sum(1) <= 2)
    some = np.asarray(jitted_diffaugment("cutout")(keys, images, 0.3))
    np.testing.assert_allclose(np.mean(np.any(some == 0, axis=(1, 2, 3))), 0.3, atol=4 * np.sqrt(0.21 / n))


# Control.


def test_adaptive_strength_follows_the_sign_of_the_logits_on_reals():
    augment = Augmentation(diffaugment, Schedule(0.2), adaptive=True)  # towards 0.6, by 1 in 500,000 images

    def adapt(p, sign, images, augment=augment):
        return float(augment.adapt({"p": jnp.float32(p)}, jnp.float32(sign), images)["p"])

    np.testing.assert_allclose(adapt(0.2, 0.7, 2560), 0.2 + 2560 / 500_000, rtol=1e-6)
    np.testing.assert_allclose(adapt(0.2, 0.5, 2560), 0.2 - 2560 / 500_000, rtol=1e-6)
    np.testing.assert_allclose(adapt(0.2, 0.6, 2560), 0.2, rtol=1e-6)
    assert adapt(0.001, -1.0, 2560) == 0.0
    assert adapt(0.999, 1.0, 2560) == 1.0
    np.testing.assert_allclose(adapt(0.0, 0.2, 1000, augment.replace(target=0.1, speed_kimg=10.0)), 0.1, rtol=1e-6)
    assert augment.running == {"p": 0.2}
    assert augment.strength({"p": 0.4}, 0.0) == 0.4


def test_scheduled_strength():
    augment = Augmentation(diffaugment, Schedule(0.0, end=1.0, over=1000.0, shape="linear"))
    assert augment.running == {}
    assert float(augment.strength(None, 250.0)) == 0.25
