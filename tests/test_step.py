"""The training step: it is the algorithm, and devices, dispatches and vmap change nothing but rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.core import rng
from jaxgan.core.errors import ConfigError
from jaxgan.core.parallel import Devices
from jaxgan.core.rng import Stream
from jaxgan.data.pixels import to_float
from jaxgan.gan.augment import Augmentation
from jaxgan.gan.ema import ExponentialEma, PowerEma
from jaxgan.gan.losses import CLASS_LOSSES, LOSSES, Loss
from jaxgan.gan.metrics import Mean, logit_metrics
from jaxgan.gan.penalties import PENALTIES, Penalty
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.schedules import Schedule
from jaxgan.gan.step import train_step
from jaxgan.models import MODELS
from jaxgan.models.layers import unit
from jaxgan.ops import flops
from tests.helpers import (
    KEY,
    DenseDiscriminator,
    DenseGenerator,
    NormedDiscriminator,
    StyledGenerator,
    initial_state,
    jitted_step,
    random_batches,
    relative_distance,
    run,
    run_snippet,
    sgd,
    tiny_recipe,
)


def penalties(*names: str, weight: float = 0.3, **changes) -> dict[str, Penalty]:
    return {name: PENALTIES[name].replace(weight=Schedule(weight), **changes) for name in names}


def first(batches: dict) -> dict:
    return jax.tree.map(lambda x: x[0], batches)


# The algorithm.


def test_one_step_against_the_algorithm_written_out():
    """Two steps of D with the hinge loss, one of G, and the average, for one device and gradient descent."""
    done, n_d, rate_d, rate_g, half_life = 3, 2, 0.02, 0.05, 50.0
    recipe = tiny_recipe(
        loss=LOSSES["hinge"],
        d_steps=n_d,
        optimizer_d=sgd(rate_d),
        optimizer_g=sgd(rate_g),
        ema=ExponentialEma(Schedule(half_life)),
    )
    net_g, net_d, size = recipe.generator, recipe.discriminator, recipe.batch_size

    def z(stream, count):
        """Draws the latents of the count-th step of D or of G: each belongs to its example."""
        return rng.normal(rng.example_keys(rng.stream_key(KEY, stream, count), jnp.arange(size)), (recipe.z_dim,))

    def generate(params, state, z):
        return net_g.apply({"params": params, **state}, z, None, train=True, mutable=["batch_stats"])

    def discriminate(params, state, images):
        (logits, _), state = net_d.apply({"params": params, **state}, images, None, train=True, mutable=["batch_stats"])
        return logits, state

    @jax.jit
    def by_hand(state, images):
        g, d = state.g, state.d
        params_g, state_g, params_d, state_d = g.params, g.model_state, d.params, d.model_state
        losses_d = []
        for i in range(n_d):
            real = to_float(images[i])
            fake, state_g = generate(params_g, state_g, z(Stream.Z_D, n_d * done + i))

            def loss_d(params, real=real, fake=fake, state_d=state_d):
                logits, new_state = discriminate(params, state_d, jnp.concatenate([real, fake]))
                return jnp.mean(jnp.maximum(0, 1 - logits[:size]) + jnp.maximum(0, 1 + logits[size:])), new_state

            (value, state_d), grads = jax.value_and_grad(loss_d, has_aux=True)(params_d)
            params_d = jax.tree.map(lambda p, g: p - rate_d * g, params_d, grads)
            losses_d.append(value)

        def loss_g(params):
            fake, new_state = generate(params, state_g, z(Stream.Z_G, done))
            return -jnp.mean(discriminate(params_d, state_d, fake)[0]), new_state

        (value_g, state_g), grads = jax.value_and_grad(loss_g, has_aux=True)(params_g)
        params_g = jax.tree.map(lambda p, g: p - rate_g * g, params_g, grads)
        weight = 0.5 ** (n_d * size / half_life)
        variables = {"params": params_g, **state_g}
        ema = jax.tree.map(lambda old, new: weight * old + (1 - weight) * new, g.variables, variables)
        return (params_d, state_d), (params_g, state_g), ema, jnp.mean(jnp.array(losses_d)), value_g

    before, batch = initial_state(recipe).replace(step=np.int32(done)), first(random_batches(recipe, 1))
    d, g, ema, value_d, value_g = by_hand(before, batch["images"])
    after, metrics = jitted_step(recipe, before, batch, KEY)
    assert relative_distance(d, (after.d.params, after.d.model_state)) <= 1e-6
    assert relative_distance(g, (after.g.params, after.g.model_state)) <= 1e-6
    assert relative_distance(ema, after.ema) <= 1e-6
    assert after.step == done + 1
    np.testing.assert_allclose([float(metrics["loss/d"]), float(metrics["loss/g"])], [value_d, value_g], rtol=1e-5)


# Devices, dispatches, populations.


def dim(keys, images, p):
    """The smallest augmentation: each image is darkened by a draw of its own."""
    return images * (1.0 - p * rng.uniform(keys)[:, None, None, None])


EVERYTHING = dict(
    generator=StyledGenerator(),
    discriminator=DenseDiscriminator(dropout=0.3, conditioning="d2dce", embed_dim=8, smooth=True),
    num_classes=4,
    penalties_d=penalties("bcr", "dragan", "lecam"),
    penalties_g=penalties("fm", "path"),
    class_loss=CLASS_LOSSES["d2dce"].replace(on_fakes=True),
    augment=Augmentation(dim, Schedule(0.7), adaptive=True, target=0.3, speed_kimg=0.5),
    top_k_fraction=Schedule(0.5),
    flip=True,
)
RELATIVISTIC = dict(
    generator=DenseGenerator(),
    discriminator=DenseDiscriminator(san=True, smooth=True),
    num_classes=4,
    loss=LOSSES["rpgan"],
    d_steps=2,
    penalties_d=penalties("r1", fraction=0.5) | penalties("r2", interval=2) | penalties("r1_difference", fraction=0.5),
    augment=Augmentation(dim, Schedule(0.8), shared_draws=True),
    posthoc_ema={"0.1": PowerEma(6.94)},
    fake_labels="real",
)
BATCH_NORM_IN_D = dict(
    generator=DenseGenerator(),
    discriminator=NormedDiscriminator(),
    penalties_d=penalties("gp") | penalties("r1", interval=2),
)


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        pytest.param(EVERYTHING, [("pmap", 2)], marks=pytest.mark.slow, id="everything that looks at D"),
        pytest.param(RELATIVISTIC, [("shard_map", 1)], id="relativistic"),
        pytest.param(BATCH_NORM_IN_D, [("pmap", 1), ("shard_map", 2)], marks=pytest.mark.long, id="batch norm in D"),
    ],
)
def test_two_devices_agree_with_one(parts, kinds):
    """One device without any axis, a step at a time; two by either back end, some with two steps in a dispatch."""
    recipe = tiny_recipe(**parts)
    one, singles = run(recipe, steps=2)
    expected = jax.tree.map(lambda *x: sum(x), *singles)
    for backend, per_dispatch in kinds:
        two, dispatches = run(recipe, 2, Devices(backend, jax.devices()[:2]), per_dispatch)
        assert one.step == two.step == 2
        assert relative_distance(one.replace(step=0.0), two.replace(step=0.0)) <= 1e-5
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), one.running, two.running)
        means = jax.tree.map(lambda *x: sum(x), *dispatches)
        for name, mean in expected.items():
            assert mean.count == means[name].count
            np.testing.assert_allclose(means[name].total, mean.total, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_step_that_takes_less_memory_is_the_same():
    """Draws belong to examples, averages move once a step by the mean of all parts, and activations come out anew."""
    recipe = tiny_recipe(**RELATIVISTIC | {"generator": StyledGenerator()})
    (whole, means), (parts, means_of_parts) = run(recipe, 2), run(recipe.replace(accumulate=4, remat=True), 2)
    assert relative_distance(whole.replace(step=0.0), parts.replace(step=0.0)) <= 1e-5
    for mean, of_parts in zip(means, means_of_parts, strict=True):
        for name in mean:
            assert mean[name].count == of_parts[name].count
            np.testing.assert_allclose(of_parts[name].total, mean[name].total, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_one_to_eight_devices_are_the_same_run():
    code = """
import jax
from jaxgan.core.parallel import Devices
from tests.helpers import relative_distance, run, tiny_recipe
one, singles = run(tiny_recipe(), 20)
for count in (2, 4, 8):
    state, means = run(tiny_recipe(), 20, Devices("pmap", jax.devices()[:count]))
    print(relative_distance(one.replace(step=0.0), state.replace(step=0.0)) < 1e-5)
    print(relative_distance(singles[-1]["loss/d"], means[-1]["loss/d"]) < 1e-4)
"""
    assert run_snippet(code, devices=8).split() == ["True"] * 6


@pytest.mark.slow
def test_numbers_are_arguments_of_the_program():
    """Recipes that differ in numbers only share one, and `vmap` trains both at once as each would train alone."""
    traces = []

    def traced(*arguments):  # jit calls it where it has no program for such arguments
        traces.append(None)
        return train_step(*arguments)

    def recipe(rate, weight, half_life, p):
        return tiny_recipe(
            discriminator=DenseDiscriminator(smooth=True),
            optimizer_g=sgd(rate),
            optimizer_d=sgd(2 * rate),
            penalties_d=penalties("r1", weight=weight) | penalties("lecam", weight=weight, interval=2),
            ema=ExponentialEma(Schedule(half_life, shape="linear", end=0.0, over=1e3), rampup=half_life),
            augment=Augmentation(dim, Schedule(p)),
        )

    recipes = [recipe(0.01, 0.1, 30.0, 0.3), recipe(0.03, 2.0, 90.0, 1.0)]
    step, batches = jax.jit(traced), random_batches(recipes[0], 2)
    alone = starts = [initial_state(recipes[0], seed) for seed in range(2)]
    population, together = (jax.tree.map(lambda *x: np.stack(x), *trees) for trees in (recipes, alone))
    vmapped = jax.jit(jax.vmap(train_step, in_axes=(0, 0, None, None)))
    for i in range(2):  # the second step applies the lazy penalty
        batch = jax.tree.map(lambda x, i=i: x[i], batches)
        together, _ = vmapped(population, together, batch, KEY)
        alone = [step(recipe, state, batch, KEY)[0] for recipe, state in zip(recipes, alone, strict=True)]
    assert len(traces) == 1
    together = jax.device_get(together)
    for i, state in enumerate(alone):
        assert relative_distance(state, jax.tree.map(lambda x, i=i: x[i], together)) <= 1e-5
    same_start, _ = step(recipes[1], starts[0], first(batches), KEY)
    other, _ = step(recipes[0], starts[0], first(batches), KEY)
    assert len(traces) == 1
    for a, b in ((same_start.g, other.g), (same_start.d, other.d), (same_start.ema, other.ema)):
        assert relative_distance(a, b) > 1e-4  # they do matter


# What a step counts: 2 x the multiply-adds of the algorithm, and no more.

PIXELS, WIDTH = 8 * 8 * 3, 16
FIRST, LAST = 2 * PIXELS * WIDTH, 2 * WIDTH  # D's two layers, an image
F = FIRST + LAST
G_FIRST, G_LAST = 2 * 8 * WIDTH, 2 * WIDTH * PIXELS
G = G_FIRST + G_LAST
# A loss takes a forward pass, a gradient a layer, and one back through all layers but the first.
LOSS = 3 * F - FIRST
# A gradient penalty on a piecewise linear net takes no second forward pass: one back to the images, and for the
# gradient of that two a layer, but one for the last, which starts from a constant.
WITH_PENALTY = LOSS + F + 2 * F - LAST


@pytest.mark.parametrize(
    ("names", "loss", "cost"),
    [
        ((), "ns", 2 * LOSS),
        (("r1",), "rpgan", WITH_PENALTY + LOSS),
        (("r2",), "hinge", WITH_PENALTY + LOSS),
        (("r1", "r2"), "rpgan", 2 * WITH_PENALTY),
    ],
)
@pytest.mark.parametrize("interval", [1, 2])
def test_no_operation_that_the_algorithm_does_not_need(names, loss, cost, interval):
    recipe = tiny_recipe(
        discriminator=DenseDiscriminator(spectral=False),
        loss=LOSSES[loss],
        d_steps=3,
        penalties_d=penalties(*names, interval=interval),
    )
    state = initial_state(recipe)
    count = flops.count(train_step, recipe, state, first(random_batches(recipe, 1)), KEY)
    d_step = G + cost
    # G's loss goes back through all of D to the fakes, and through G but for its first layer; through the reals of a
    # relativistic loss there is no way back.
    g_step = 2 * F + 3 * G - G_FIRST + (F if loss == "rpgan" else 0)
    assert count == recipe.batch_size * (3 * d_step + g_step)


def test_r3gan_takes_six_times_the_operations_of_d_an_image():
    """With R1 and R2: one forward, one back to the images, two for its gradient, two for that of the loss."""
    fields = dict(channels=(16, 16), blocks=1)
    net_g, net_d = (net(**fields) for net in MODELS["r3gan"])
    recipe = tiny_recipe(generator=net_g, discriminator=net_d, loss=LOSSES["rpgan"], penalties_d=penalties("r1", "r2"))
    state, batch = initial_state(recipe), first(random_batches(recipe, 1))
    shapes = {"g": (recipe.generator, (1, recipe.z_dim)), "d": (recipe.discriminator, (1, *recipe.image_shape))}
    forward = {
        name: flops.count(
            lambda v, x, net=net: net.apply(v, x, None, True), getattr(state, name).variables, np.zeros(x)
        )
        for name, (net, x) in shapes.items()
    }
    count = flops.count(train_step, recipe, state, batch, KEY) / recipe.batch_size
    by_g = 2 * forward["d"] + forward["d"] + 3 * forward["g"]  # fakes, reals, and what makes fakes
    assert 11 < (count - by_g - forward["g"]) / forward["d"] <= 12


def test_a_penalty_on_a_fraction_sees_every_nth_example_and_costs_that_fraction():
    """Its mean is that of all where all are copies of those; a pass of its own takes a forward pass more."""
    few, all_of_them = (
        tiny_recipe(discriminator=DenseDiscriminator(smooth=True), penalties_d=penalties("r1", fraction=fraction))
        for fraction in (0.25, 1.0)
    )
    state, batch = initial_state(few), first(random_batches(few, 1))
    copies = batch | {"images": np.repeat(batch["images"][:, ::4], 4, axis=1)}
    values = [jitted_step(recipe, state, copies, KEY)[1]["penalty/r1"].total for recipe in (few, all_of_them)]
    np.testing.assert_allclose(*values, rtol=1e-5)
    other = jitted_step(few, state, batch, KEY)[1]["penalty/r1"].total
    np.testing.assert_allclose(other, values[0], rtol=1e-5)
    counts = [flops.count(train_step, recipe, state, batch, KEY) for recipe in (few, all_of_them)]
    assert counts[1] - counts[0] == few.batch_size * (0.75 * (WITH_PENALTY - LOSS) - 0.25 * (2 * F - LAST))
    part = tiny_recipe(batch_size=2, penalties_d=few.penalties_d)
    with pytest.raises(ConfigError, match=r"Penalty\.fraction=0\.25: must be one over a divisor of the 2 images"):
        train_step(part, state, first(random_batches(part, 1)), KEY)


# What a step draws.


def remember(inputs):
    """A penalty of nothing that keeps what D was given, in the order of the global batch."""
    gathered = {"fake": inputs.context.gather(inputs.fake.labels), "z": inputs.context.gather(inputs.fake.images)}
    if inputs.real is not None:
        gathered |= {"real": inputs.context.gather(inputs.real.labels)}
        gathered |= {"images": inputs.context.gather(inputs.real.images)}
    seen = inputs.running
    table = {} if "table" not in seen else {"table": seen["table"].at[gathered["real"], gathered["fake"]].add(1)}
    return jnp.float32(0.0), {name: gathered[name].astype(jnp.float32) for name in seen if name in gathered} | table


def remembering(classes: int = 4, size: int = 8, **changes) -> Recipe:
    """Returns a recipe whose state has the labels and reals of its last steps, and a table of the labels of all."""
    labels = {"fake": np.zeros(size), "real": np.zeros(size)}
    images = np.zeros((size, 8, 8, 3))
    d = Penalty(remember, running=labels | {"images": images, "table": np.zeros((classes, classes))})
    g = Penalty(remember, running={"fake": np.zeros(size)}, net="g")
    return tiny_recipe(
        num_classes=classes, batch_size=size, penalties_d={"seen": d}, penalties_g={"seen_g": g}, **changes
    )


def test_labels_of_fakes_are_uniform_and_independent_of_the_reals():
    recipe = remembering(d_steps=2)
    state, _ = run(recipe, steps=100, devices=Devices("shard_map", jax.devices()[:2]), per_dispatch=100)
    table = state.running["seen"]["table"]
    assert table.sum() == 100 * 2 * 8
    # Both sides are uniform and independent: 16 cells of one probability. Chi-squared of 15 degrees of freedom has a
    # mean of 15 and a deviation of 5.5.
    assert 4 < np.sum((table - 100) ** 2 / 100) < 37
    last = random_batches(recipe, 100)["labels"][-1, -1]
    np.testing.assert_array_equal(state.running["seen"]["real"], last)
    assert (state.running["seen_g"]["fake"] != state.running["seen"]["fake"]).any()  # G's step draws its own


def test_draws_belong_to_examples_not_to_devices():
    recipe = remembering(flip=True)
    one, _ = run(recipe)
    two, _ = run(recipe, 1, Devices("pmap", jax.devices()[:2]))
    jax.tree.map(np.testing.assert_array_equal, one.running, two.running)
    seen, batch = one.running["seen"], first(random_batches(recipe, 1))
    # Each real is shown as it is or flipped.
    plain = np.asarray(to_float(batch["images"][0]))
    kept, flipped = (np.abs(seen["images"] - x).max(axis=(1, 2, 3)) < 1e-6 for x in (plain, plain[:, :, ::-1]))
    np.testing.assert_array_equal(kept, ~flipped)
    assert 0 < flipped.sum() < len(flipped)


def test_fakes_may_have_the_labels_of_the_reals():
    recipe = remembering(fake_labels="real")
    state, _ = run(recipe)
    (labels,) = first(random_batches(recipe, 1))["labels"]
    for seen in (state.running["seen"]["real"], state.running["seen"]["fake"], state.running["seen_g"]["fake"]):
        np.testing.assert_array_equal(seen, labels)


# What a step learns by.


def gradients(recipe: Recipe, batch: dict):
    """Returns the states before and after one step, and the gradients of D and of G in it, by descent of rate 1."""
    recipe = recipe.replace(optimizer_g=sgd(1.0), optimizer_d=sgd(1.0))
    before = initial_state(recipe)
    after, metrics = jax.device_get(jitted_step(recipe, before, batch, KEY))
    changes = [jax.tree.map(np.subtract, getattr(before, net).params, getattr(after, net).params) for net in ("d", "g")]
    return before, after, *changes, metrics


def keys(recipe: Recipe, stream: Stream):
    """Returns the keys of the examples in the first step of D or of G."""
    number, batch = stream.value
    index = batch * recipe.batch_size + jnp.arange(recipe.batch_size)
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, 0), number), i))(index)


def fakes(recipe: Recipe, params, stream: Stream, labels=None):
    z = rng.normal(keys(recipe, stream), (recipe.z_dim,))
    noise = keys(recipe, Stream.NOISE_D_G if stream is Stream.Z_D else Stream.NOISE_G_G)
    variables = {"params": params}
    return recipe.generator.apply(variables, z, labels, train=True, keys=noise, mutable=["batch_stats"])[0]


@pytest.mark.parametrize(
    ("discriminator", "lazy"),
    [
        (DenseDiscriminator(spectral=False, smooth=True, dropout=0.3), dict(r1=1, r2=1)),
        (DenseDiscriminator(spectral=False, smooth=True, dropout=0.3), dict(r1=1)),
        (NormedDiscriminator(), dict(r2=1)),
    ],
    ids=["together", "r1 alone", "r2, batch norm in D"],
)
def test_shared_gradients_are_those_of_a_forward_pass_of_their_own(discriminator, lazy):
    """R1 and R2 through the augmentation, with the loss: values, and the gradient of D."""
    recipe = tiny_recipe(
        discriminator=discriminator, penalties_d=penalties(*lazy), augment=Augmentation(dim, Schedule(0.5))
    )
    batch = first(random_batches(recipe, 1))
    before, _, grads, _, metrics = gradients(recipe, batch)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def by_hand(params, state):
        sides = {
            "r1": (to_float(batch["images"][0]), Stream.NOISE_D_REAL, Stream.AUGMENT_D_REAL),
            "r2": (fakes(recipe, state.g.params, Stream.Z_D), Stream.NOISE_D_FAKE, Stream.AUGMENT_D_FAKE),
        }
        logits, values = {}, {}
        model_state = state.d.model_state
        for name, (images, noise, augment) in sides.items():

            def discriminate(images, noise=noise, augment=augment):
                images = dim(keys(recipe, augment), images, 0.5)
                variables = {"params": params, **model_state}
                answer = recipe.discriminator.apply(
                    variables, images, None, train=True, keys=keys(recipe, noise), mutable=["batch_stats"]
                )
                return answer[0][0]

            logits[name] = discriminate(images)
            gradient = jax.grad(lambda x, f=discriminate: jnp.sum(f(x)))(images)
            values[name] = jnp.mean(jnp.sum(gradient**2, axis=(1, 2, 3)))
        loss = jnp.mean(jax.nn.softplus(-logits["r1"]) + jax.nn.softplus(logits["r2"]))
        return loss + 0.3 * sum(values[name] for name in lazy), (loss, values)

    (_, (loss, values)), expected = by_hand(before.d.params, before)
    assert relative_distance(expected, grads) <= 1e-5
    np.testing.assert_allclose(float(metrics["loss/d"]), loss, rtol=1e-5)
    for name in lazy:
        np.testing.assert_allclose(float(metrics[f"penalty/{name}"]), values[name], rtol=1e-5)


def test_g_learns_from_the_fakes_that_d_likes_best_through_the_augmentation():
    recipe = tiny_recipe(
        generator=StyledGenerator(), augment=Augmentation(dim, Schedule(0.5)), top_k_fraction=Schedule(0.25)
    )
    before, after, _, grads, metrics = gradients(recipe, first(random_batches(recipe, 1)))

    @jax.jit
    @jax.value_and_grad
    def by_hand(params, d):
        images = dim(keys(recipe, Stream.AUGMENT_G_FAKE), fakes(recipe, params, Stream.Z_G, jnp.zeros(8, int)), 0.5)
        (logits, _), _ = recipe.discriminator.apply(d.variables, images, None, train=True, mutable=["batch_stats"])
        best = jax.lax.stop_gradient(jnp.argsort(logits)[-2:])
        return jnp.mean(jax.nn.softplus(-logits[best]))

    value, expected = by_hand(before.g.params, after.d)
    np.testing.assert_allclose(float(metrics["loss/g"]), value, rtol=1e-5)
    assert relative_distance(expected, grads) <= 1e-5


def test_san_learns_its_direction_by_the_wasserstein_loss():
    net, hinge = DenseDiscriminator(spectral=False, san=True, smooth=True), LOSSES["hinge"]
    recipe = tiny_recipe(discriminator=net, num_classes=4, loss=hinge)
    batch = first(random_batches(recipe, 1))
    before, _, grads, _, _ = gradients(recipe, batch)

    @jax.jit
    @jax.grad
    def by_hand(params, state):
        fixed = jax.lax.stop_gradient
        labels = {"real": batch["labels"][0], "fake": rng.randint(keys(recipe, Stream.LABELS_D), 4)}
        images = {
            "real": to_float(batch["images"][0]),
            "fake": fakes(recipe, state.g.params, Stream.Z_D, labels["fake"]),
        }
        logits, direction = {}, {}
        for side, x in images.items():
            dense, logit = params["dense"], params["logit"]
            h = jax.nn.softplus(x.reshape(8, -1) @ dense["kernel"] + dense["bias"])
            omega = unit(logit["kernel"][:, 0] + params["classes"]["embedding"][labels[side]])
            logits[side] = jnp.sum(fixed(omega) * h, axis=-1) + logit["bias"]
            direction[side] = jnp.sum(omega * fixed(h), axis=-1)
        return jnp.mean(hinge.d(logits["real"], logits["fake"]) + direction["fake"] - direction["real"])

    assert relative_distance(by_hand(before.d.params, before), grads) <= 1e-5


def test_class_loss_in_closed_form():
    """A D whose class logits are always (5, 0, 0, 0) has one loss for class 0 and another for the rest."""

    class Fixed(DenseDiscriminator):
        def __call__(self, images, labels, train, keys=None):
            logits, outputs = super().__call__(images, labels, train, keys)
            return logits, outputs | {"classes": jnp.tile(jnp.array([5.0, 0.0, 0.0, 0.0]), (len(images), 1))}

    class_loss = CLASS_LOSSES["ac"].replace(on_fakes=True)
    state, (metrics,) = run(remembering(discriminator=Fixed(), class_loss=class_loss))

    def mean(labels):
        return np.mean(np.log(np.exp(5) + 3) - 5 * (labels == 0))

    real, fake = state.running["seen"]["real"], state.running["seen"]["fake"]
    np.testing.assert_allclose(float(metrics["classes/d"]), mean(real) + mean(fake), rtol=1e-5)
    np.testing.assert_allclose(float(metrics["classes/g"]), mean(state.running["seen_g"]["fake"]), rtol=1e-5)


def test_discriminative_class_loss_in_closed_form():
    """D's classifier tells reals of its 4 classes from fakes of them: here it always says class 0, and real."""

    class Fixed(DenseDiscriminator):
        def __call__(self, images, labels, train, keys=None):
            logits, outputs = super().__call__(images, labels, train, keys)
            return logits, outputs | {"classes": jnp.tile(5.0 * jax.nn.one_hot(0, 8), (len(images), 1))}

    state, (metrics,) = run(remembering(discriminator=Fixed(), class_loss=CLASS_LOSSES["adc"]))
    real, fake_g = state.running["seen"]["real"], state.running["seen_g"]["fake"]
    of_reals = np.mean(np.log(np.exp(5) + 7) - 5 * (real == 0))
    np.testing.assert_allclose(float(metrics["classes/d"]), of_reals + np.log(np.exp(5) + 7), rtol=1e-5)
    np.testing.assert_allclose(float(metrics["classes/g"]), -5 * np.mean(fake_g == 0), rtol=1e-5)


@pytest.mark.parametrize("conditioning", ["ac", "adc"])
def test_fakes_of_no_clear_class_in_closed_form(conditioning):
    """A D that gives every image class 0 with probability 0.9 and the others 1/30 finds the fakes of class 0 clear."""
    probabilities = jnp.array([0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3])

    class Fixed(DenseDiscriminator):
        def __call__(self, images, labels, train, keys=None):
            logits, outputs = super().__call__(images, labels, train, keys)
            classes = jnp.log(probabilities)
            if conditioning == "adc":  # what it says of fakes does not count
                classes = jnp.concatenate([classes - 7.0, jnp.arange(4.0)])
            return logits, outputs | {"classes": jnp.tile(classes, (len(images), 1))}

    class_loss = CLASS_LOSSES[conditioning].replace(weight_clear=0.5, confidence=0.6)
    state, (metrics,) = run(remembering(discriminator=Fixed(), class_loss=class_loss))
    expected = np.log(0.6 * 30) * np.mean(state.running["seen_g"]["fake"] != 0)
    np.testing.assert_allclose(float(metrics["classes/unclear"]), expected, rtol=1e-5)


def test_g_learns_from_fakes_of_no_clear_class():
    """Where nothing else counts, a weight of it and a confidence of 1 is AC-GAN's loss, and one near 0 no loss."""
    nothing = Loss(lambda real, fake: 0.0 * real, lambda real, fake: 0.0 * fake)
    net = DenseDiscriminator(conditioning="ac", smooth=True)

    def learnt(**changes):
        class_loss = CLASS_LOSSES["ac"].replace(**changes)
        recipe = tiny_recipe(discriminator=net, num_classes=4, loss=nothing, class_loss=class_loss)
        return gradients(recipe, first(random_batches(recipe, 1)))[3]

    plain = learnt(weight_g=0.3)
    assert relative_distance(plain, learnt(weight_g=0.0, weight_clear=0.3, confidence=1.0)) <= 1e-5
    assert optax.tree.norm(learnt(weight_g=0.0, weight_clear=0.3, confidence=1e-3)) == 0
    with pytest.raises(ConfigError, match=r"^ClassLoss\.weight_clear=0\.3: needs a fn_unclear"):
        CLASS_LOSSES["d2dce"].replace(weight_clear=0.3)


def test_class_loss_is_weighed():
    """Where the game is worth nothing, D and G learn from it alone."""
    nothing = Loss(lambda real, fake: 0.0 * real, lambda real, fake: 0.0 * fake)
    net = DenseDiscriminator(conditioning="ac", smooth=True)

    def learnt(weight_d, weight_g):
        class_loss = CLASS_LOSSES["ac"].replace(weight_d=weight_d, weight_g=weight_g)
        recipe = tiny_recipe(discriminator=net, num_classes=4, loss=nothing, class_loss=class_loss)
        return gradients(recipe, first(random_batches(recipe, 1)))[2:4]

    (d, g), (d_half, _), (_, g_double) = learnt(1.0, 1.0), learnt(0.5, 1.0), learnt(1.0, 2.0)
    assert relative_distance(d, jax.tree.map(lambda x: 2.0 * x, d_half)) <= 1e-5
    assert relative_distance(g, jax.tree.map(lambda x: 0.5 * x, g_double)) <= 1e-5


def test_parameters_are_normalised_after_each_step():
    class Halved(DenseDiscriminator):
        @staticmethod
        def normalise_params(params):
            return jax.tree.map(lambda x: 0.5 * x, params)

    (plain, _), (halved, _) = run(tiny_recipe()), run(tiny_recipe(discriminator=Halved()))
    assert relative_distance(jax.tree.map(lambda x: 0.5 * x, plain.d.params), halved.d.params) <= 1e-6


# What is lazy, and what follows the run.


@pytest.fixture(scope="module")
def followed():
    """The state after twelve updates of two steps of D, and their metrics: a run in which something adapts."""

    def count(inputs):
        applied = inputs.running["applied"]
        return (3.0 + applied) * jnp.ones_like(inputs.real.logits), {"applied": applied + 1.0}

    lazy = Penalty(count, weight=Schedule(0.1), interval=3, running={"applied": 0.0})
    augment = Augmentation(dim, Schedule(0.1), adaptive=True, target=0.6, speed_kimg=0.2)
    recipe = tiny_recipe(d_steps=2, penalties_d={"lazy": lazy}, augment=augment, optimizer_d=sgd(0.3))
    return run(recipe, steps=12)


def test_a_lazy_penalty_counts_in_the_steps_that_apply_it(followed):
    """In the others it is not computed, and its running scalars stay."""
    state, metrics = followed
    means = [mean["penalty/lazy"] for mean in metrics[:3]]  # D's steps 0 1, 2 3, 4 5: it is in 2 and in 5
    assert [mean.count for mean in means] == [0, 1, 1]
    assert [mean.total for mean in means] == [0, 3, 4]
    assert np.isnan(float(means[0]))
    assert state.running["lazy"] == {"applied": 2 * 12 // 3}
    assert all(mean["loss/d"].count == 2 and mean["loss/g"].count == 1 for mean in metrics)


def test_p_of_the_augmentation_adapts(followed):
    state, metrics = followed
    p, moves = 0.1, []
    for mean in metrics:
        np.testing.assert_allclose(float(mean["ada/p"]), p, rtol=1e-5)
        moves.append(np.sign(float(mean["ada/sign"]) - 0.6))
        p = np.clip(p + moves[-1] * 16 / 200, 0, 1)
    assert {-1, 1} <= set(moves)  # up and down
    np.testing.assert_allclose(state.running["augment"]["p"], p, rtol=1e-5)


def test_a_lazy_penalty_weighs_as_much_as_one_of_every_step():
    """By what is learnt: nothing in the first step, in the second what twice the weight makes."""

    def squared(inputs):
        return inputs.fake.logits**2

    def after(interval, weight, state, step):
        penalty = Penalty(squared, weight=Schedule(weight), interval=interval)
        net = DenseDiscriminator(spectral=False, smooth=True)
        both = dict(penalties_d={"d": penalty}, penalties_g={"g": penalty.replace(net="g")})
        recipe = tiny_recipe(discriminator=net, **both)
        batch = jax.tree.map(lambda x: x[step], random_batches(recipe, 2))
        return jitted_step(recipe, state or initial_state(recipe), batch, KEY)[0]

    start = after(2, 1.0, None, 0)
    assert relative_distance(start, after(1, 0.0, None, 0)) <= 1e-7
    second, expected, other = (after(*kind, start, 1) for kind in ((2, 1.0), (1, 2.0), (1, 1.0)))
    for net in ("g", "d"):
        ours, same, different = (getattr(state, net).params for state in (second, expected, other))
        assert relative_distance(same, ours) <= 1e-6
        assert relative_distance(different, ours) > 1e-5


# What a step says.


def test_norms_are_those_of_the_step_that_was_taken():
    norm, recipe = jax.jit(optax.tree.norm), tiny_recipe()
    before, (after, (metrics,)) = initial_state(recipe), run(recipe)
    for name in ("g", "d"):
        old, new = getattr(before, name).params, getattr(after, name).params
        step = norm(jax.tree.map(np.subtract, new, old))
        np.testing.assert_allclose(float(metrics[f"norm/update_{name}"]), step, rtol=1e-3)
        np.testing.assert_allclose(float(metrics[f"norm/grad_{name}"]) * 0.01, step, rtol=1e-3)
        np.testing.assert_allclose(float(metrics[f"norm/param_{name}"]), norm(new), rtol=1e-5)
        np.testing.assert_allclose(float(metrics[f"lr/{name}"]), 0.01, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_d_has_an_accuracy_of_1_and_an_undecided_one_of_none(name):
    """Logits as each loss wants them: lsgan's are 1 and 0; wgan and rpgan compare within pairs."""
    recipe = tiny_recipe(loss=LOSSES[name])
    real, fake = (
        (jnp.array([9.0, 4.0]), jnp.array([8.0, 3.0]))
        if name in ("wgan", "rpgan")
        else (jnp.ones(2), jnp.zeros(2) - (name != "lsgan"))
    )
    metrics = logit_metrics(recipe, real, fake)
    assert (metrics["acc/real"], metrics["acc/fake"]) == (1, 1)
    middle = jnp.full(2, 0.5 if name == "lsgan" else 0.0)
    metrics = logit_metrics(recipe, middle, middle)
    assert (metrics["acc/real"], metrics["acc/fake"]) == (0, 0)


def test_a_mean_of_no_steps_is_no_number():
    assert np.isnan(float(Mean(jnp.float32(0), jnp.float32(0))))
    assert float(Mean(jnp.float32(6), jnp.float32(4))) == 1.5
