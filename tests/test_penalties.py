"""Penalties of discriminators whose gradients are known, and of generators whose Jacobian is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core.rng import Stream
from jaxgan.gan.penalties import PENALTIES, one_centred_norm, path_lengths
from jaxgan.gan.views import D_STREAMS, DView, PenaltyInputs, StepContext

B = 6
SHAPE = (B, 8, 8, 3)
REAL, FAKE = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=SHAPE[1:]).astype(np.float32)


def linear(x, scale=1.0):
    return scale * jnp.sum(x * WEIGHT, axis=(1, 2, 3))


def quadratic(x):
    return 0.5 * jnp.sum(jnp.square(x), axis=(1, 2, 3))


def constant(x):
    return jnp.full(len(x), 3.0)


def context(images_seen=64.0, axis_name=None, size=B) -> StepContext:
    """Returns the ninth step of D."""
    seen, index = jnp.float32(images_seen), jnp.arange(size)
    return StepContext(jax.random.key(0), jnp.int32(8), seen, index, size, D_STREAMS, axis_name)


def inputs(discriminate, running=None, real=REAL, fake=FAKE, size=None, **changes) -> PenaltyInputs:
    def view(images):
        images = jnp.asarray(images)
        gradient = jax.grad(lambda x: jnp.sum(discriminate(x)))(images)
        return DView(images, jnp.zeros(len(images), int), discriminate(images), {}, discriminate, gradient)

    return PenaltyInputs(view(real), view(fake), running or {}, context(size=size or len(real), **changes))


def compiled(*values):
    """Returns what functions of nothing return, by one program."""
    return jax.device_get(jax.jit(lambda: [value() for value in values])())


def squares(x):
    return np.square(x).sum(axis=(1, 2, 3))


@pytest.mark.parametrize("name", ["r1_difference", "r2_difference"])
def test_a_finite_difference_is_the_squared_norm_of_the_gradient_on_average(name):
    """Along each of many directions it is chi-squared, of deviation sqrt(2) times its mean, but for a D that bends."""
    n = 4096
    images = np.broadcast_to(REAL[:1], (n, *SHAPE[1:]))
    side = "real" if name == "r1_difference" else "fake"
    (of_linear, of_quadratic) = compiled(
        *(
            lambda d=d: PENALTIES[name].fn(inputs(d, **{"real": REAL, "fake": REAL} | {side: images}, size=n))
            for d in (linear, quadratic)
        )
    )
    assert abs(of_linear.mean() / np.sum(WEIGHT**2) - 1) < 4 * np.sqrt(2 / n)
    assert abs(of_quadratic.mean() / squares(REAL[:1])[0] - 1) < 4 * np.sqrt(2 / n) + 0.01


def test_r1_and_r2_have_the_squared_norm_of_the_gradient_on_their_side():
    for name, images in (("r1", REAL), ("r2", FAKE)):
        fn = PENALTIES[name].fn
        of_linear, of_quadratic = compiled(lambda fn=fn: fn(inputs(linear)), lambda fn=fn: fn(inputs(quadratic)))
        np.testing.assert_allclose(of_linear, np.full(B, np.sum(WEIGHT**2)), rtol=1e-5)
        np.testing.assert_allclose(of_quadratic, squares(images), rtol=1e-5)


def test_wgan_gp_lies_between_a_real_and_a_fake():
    """The quadratic D's gradient is the place: mix * real + (1 - mix) * fake, for one mix in [0, 1] an example."""
    fn = PENALTIES["gp"].fn
    value, of_linear = compiled(lambda: fn(inputs(quadratic)), lambda: fn(inputs(linear)))
    mix = np.linspace(0, 1, 2001)[:, None, None, None, None]
    candidates = np.square(np.sqrt(np.square(mix * REAL + (1 - mix) * FAKE).sum(axis=(2, 3, 4))) - 1)
    np.testing.assert_allclose(np.abs(candidates - value).min(axis=0) / value, 0.0, atol=1e-3)
    assert value.std() > 0
    np.testing.assert_allclose(of_linear, (np.linalg.norm(WEIGHT) - 1) ** 2, rtol=1e-4)


def test_one_centred_norm_in_closed_form():
    slope_one = 1.0 / np.linalg.norm(WEIGHT)
    mix = np.linspace(0.1, 0.9, B, dtype=np.float32)
    of_linear, of_quadratic = compiled(
        lambda: one_centred_norm(lambda x: linear(x, slope_one), REAL, FAKE, mix),
        lambda: one_centred_norm(quadratic, REAL, -REAL, mix),
    )
    np.testing.assert_allclose(of_linear, 0.0, atol=1e-10)
    # Between x and -x the quadratic D has the gradient (2 mix - 1) x.
    norm = np.abs(2 * mix - 1) * np.sqrt(squares(REAL))
    np.testing.assert_allclose(of_quadratic, np.square(norm - 1), rtol=1e-4)


def test_a_flat_discriminator_has_the_penalty_1_and_no_gradient():
    """Not NaN, although the norm has no derivative there."""

    def penalty(scale):
        return jnp.mean(one_centred_norm(lambda x: linear(x, scale), REAL, FAKE, jnp.full(B, 0.5)))

    assert jax.jit(jax.value_and_grad(penalty))(0.0) == (1.0, 0.0)


def test_dragan_lies_between_a_real_and_the_same_disturbed():
    """By up to half a standard deviation upwards: D looks at one pixel, and its gradient is that pixel's value."""
    n = 400
    images = 0.1 * np.random.default_rng(2).normal(size=(n, 4, 4, 1)).astype(np.float32)
    images[:, 0, 0] = 5.0
    (value,) = compiled(lambda: PENALTIES["dragan"].fn(inputs(lambda x: 0.5 * jnp.square(x[:, 0, 0, 0]), real=images)))
    disturbance = (np.sqrt(value) + 1.0 - 5.0) / images.std(axis=(1, 2, 3))
    assert -1e-4 < disturbance.min() < 0.01
    assert 0.4 < disturbance.max() <= 0.5
    np.testing.assert_allclose(disturbance.mean(), 0.5 / 4, atol=0.02)  # of u * v / 2, both uniform


@pytest.mark.parametrize(("name", "sides"), [("cr", ("real",)), ("bcr", ("real", "fake"))])
def test_consistency_is_the_square_of_the_change_by_a_flip_and_a_shift(name, sides):
    """D looks at one pixel of images that are zero but for another: it sees whether that one came there."""
    n = 600
    images = {side: np.zeros((n, 8, 8, 3), np.float32) for side in ("real", "fake")}
    for scale, side in ((1.0, "real"), (10.0, "fake")):
        images[side][:, 2, 2] = scale

    def discriminate(x):
        return x[:, 3, 4, 0]  # from (2, 2) by a flip, to (2, 5), and a shift by (1, -1)

    fn = PENALTIES[name].fn
    value, of_constant = compiled(lambda: fn(inputs(discriminate, **images)), lambda: fn(inputs(constant)))
    for scale, side in ((1.0, "real"), (10.0, "fake")):
        moved = np.isclose(value % (2 * scale**2), scale**2) if side == "real" else value >= 100
        expected = 0.5 / 9 if side in sides else 0.0  # shifts by -1, 0 or 1 pixel a side
        assert abs(moved.mean() - expected) <= 4 * np.sqrt(expected / n)
    assert (of_constant == 0).all()


def test_lecam_is_least_where_the_logits_are_the_other_sides_average():
    fn, averages = PENALTIES["lecam"].fn, {"real": jnp.float32(0.5), "fake": jnp.float32(-1.0)}
    logits = np.float32([1.0, 3.0]), np.float32([-2.0, 0.5])

    def penalty(real, fake, images_seen=64.0):
        now = inputs(constant, averages, images_seen=images_seen)
        return fn(now._replace(real=now.real._replace(logits=real), fake=now.fake._replace(logits=fake)))

    def slopes():
        sides = np.full(2, -1.0, np.float32), np.full(2, 0.5, np.float32)
        return jax.grad(lambda real, fake: jnp.sum(penalty(real, fake)[0]), (0, 1))(*sides)

    (value, running), grads, at_first = compiled(
        lambda: penalty(*logits), slopes, lambda: penalty(*logits, images_seen=0.0)
    )
    np.testing.assert_allclose(value, [4.0 + 6.25, 16.0 + 0.0])
    np.testing.assert_allclose(running["real"], 0.99 * 0.5 + 0.01 * 2.0, rtol=1e-6)
    np.testing.assert_allclose(running["fake"], 0.99 * -1.0 + 0.01 * -0.75, rtol=1e-6)
    np.testing.assert_allclose(grads, 0.0)
    # In the first step there are no averages: the value is 0, and they become those of this step.
    value, running = at_first
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_allclose([running["real"], running["fake"]], [2.0, -0.75])


def test_feature_matching_is_the_distance_of_means_over_all_devices():
    real, fake = np.random.default_rng(3).normal(size=(2, 2, B // 2, 5)).astype(np.float32)

    def matching(real, fake):
        given = inputs(constant, axis_name="devices")
        views = (view._replace(outputs={"features": f}) for view, f in ((given.real, real), (given.fake, fake)))
        return PENALTIES["fm"].fn(given._replace(**dict(zip(("real", "fake"), views, strict=True))))

    both = jax.jit(jax.vmap(matching, axis_name="devices"))
    expected = np.sum(np.square(real.mean(axis=(0, 1)) - fake.mean(axis=(0, 1))))
    np.testing.assert_allclose(both(real, fake), [expected] * 2, rtol=1e-4)
    np.testing.assert_allclose(both(real, real[::-1]), 0.0, atol=1e-10)


def test_path_length_of_a_linear_generator():
    """G(w) = a w: J^T noise is a noise / sqrt(pixels), summed over what each style reaches."""
    scale, noise = 3.0, np.random.default_rng(4).normal(size=(B, 4, 4, 1)).astype(np.float32)
    ws = np.zeros((B, 2, 16), np.float32)

    def synthesis(ws):
        return scale * ws[:, 0].reshape(B, 4, 4, 1)  # the second of the two layers does nothing

    lengths = scale * np.sqrt(np.square(noise).sum(axis=(1, 2, 3)) / 16 / 2)
    ((values, mean),) = compiled(lambda: path_lengths(synthesis, ws, noise, jnp.float32(2.0)))
    np.testing.assert_allclose(mean, 2.0 + 0.01 * (lengths.mean() - 2.0), rtol=1e-5)
    np.testing.assert_allclose(values, np.square(lengths - mean), rtol=1e-4)


def test_keys_of_penalties_are_those_of_the_example():
    """So a penalty is the same on any devices: the second half of a batch, on its own, has the draws that it had."""
    streams = (Stream.PENALTY, Stream.CONSISTENCY_REAL, Stream.CONSISTENCY_FAKE)

    def draw(**changes):
        return [jax.random.key_data(context()._replace(**changes).keys(stream)) for stream in streams]

    whole, half = compiled(draw, lambda: draw(index=np.arange(B // 2, B)))
    for all_keys, keys in zip(whole, half, strict=True):
        np.testing.assert_array_equal(all_keys[B // 2 :], keys)
    assert not (whole[1] == whole[2]).all(axis=1).any()
