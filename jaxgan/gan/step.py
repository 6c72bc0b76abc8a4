"""One GAN update: n steps of D, one step of G, the moving averages. Pure; it reads like the algorithm box.

    state, metrics = train_step(recipe, state, batch, key)

A step is such an update, as `TrainState.step` counts them; a D step is one of the n in it; a dispatch is a call of the
compiled program, with one update or several.

`train_step` runs on each device that shares the batch, on that device's examples; `parallelize` puts it on all of
them. Gradients are averaged over the devices in `apply_gradients` and metrics in `train_step`, each in one visible
place; batch norm does its own. Every draw belongs to an example's index in the global batch, so the number of devices
changes nothing but rounding (whose differences grow as training goes on, as any small difference does).
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxgan.core import rng
from jaxgan.core.errors import require
from jaxgan.core.parallel import AXIS, Devices, axis_index, axis_size, pmean
from jaxgan.core.rng import Stream
from jaxgan.data.pixels import random_flip, to_float
from jaxgan.gan import ema
from jaxgan.gan.losses import explain_absent_reals, per_example, top_k_weights, wasserstein_d
from jaxgan.gan.metrics import Mean, as_means, logit_metrics, sum_metrics
from jaxgan.gan.nets import rematerialise
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import NetState, TrainState, check_key, check_recipe, check_state, explain_other_nets
from jaxgan.gan.views import (
    D_STREAMS,
    G_STREAMS,
    AugmentedDiscriminator,
    BoundGenerator,
    DInputs,
    PenaltyInputs,
    StepContext,
)


@explain_other_nets()
def train_step(recipe: Recipe, state: TrainState, batch: dict, key: jax.Array) -> tuple[TrainState, dict[str, Mean]]:
    """Returns the state after one update, and its metrics.

    Args:
      recipe: what to train and how.
      batch: {"images": uint8 [n, b, H, W, C], "labels": int32 [n, b]} with n = recipe.real_batches_per_step and the b
        examples of this device.
      key: the run's key, the same in every step.
    """
    check_recipe(recipe)
    check_state(recipe, state)
    check_key(key)
    check_batch(recipe, batch)
    batch = jax.tree.map(jnp.asarray, batch)  # NumPy's arrays take no traced index
    local = batch["images"].shape[1]
    index = axis_index(recipe.axis_name) * local + jnp.arange(local)  # this device's examples in the global batch
    images_seen = state.step.astype(jnp.float32) * recipe.images_per_step

    def context(count, images_seen, streams):
        return StepContext(key, count, images_seen, index, recipe.batch_size, streams, recipe.axis_name)

    def reals(n):
        """Returns the n-th batch of reals in [-1, 1] and its labels; each image is flipped with probability 1/2."""
        images, labels = to_float(batch["images"][n]), batch["labels"][n]
        if recipe.flip:
            count = state.step * recipe.real_batches_per_step + n
            images = random_flip(context(count, images_seen, None).keys(Stream.FLIP), images)
        return images, labels

    def one_d_step(carry, n):
        d, g_model_state, running = carry
        now = state.replace(d=d, g=state.g.replace(model_state=g_model_state), running=running)
        count = state.step * recipe.d_steps + n
        seen = count.astype(jnp.float32) * recipe.batch_size
        now, metrics = d_step(recipe, now, *reals(n), context(count, seen, D_STREAMS))
        return (now.d, now.g.model_state, now.running), metrics

    carry = state.d, state.g.model_state, state.running
    (d, g_model_state, running), metrics = lax.scan(one_d_step, carry, jnp.arange(recipe.d_steps))
    state = state.replace(d=d, g=state.g.replace(model_state=g_model_state), running=running)
    last = reals(recipe.real_batches_per_step - 1)
    state, metrics_g = g_step(recipe, state, *last, context(state.step, images_seen, G_STREAMS))
    state = ema_step(recipe, state)

    metrics = sum_metrics(metrics) | metrics_g
    if recipe.augment is not None and recipe.augment.adaptive:
        sign = metrics["ada/sign"].value
        adapted = recipe.augment.adapt(state.running["augment"], sign, recipe.images_per_step)
        state = state.replace(running=state.running | {"augment": adapted})
    return state.replace(step=state.step + 1), metrics


def check_batch(recipe: Recipe, batch: dict) -> None:
    """Raises a ConfigError unless a batch has the shapes and types that the recipe takes."""
    local = recipe.batch_size // axis_size(recipe.axis_name)
    right = f"must divide the {local} examples of a device"
    require(local % recipe.accumulate == 0, "Recipe.accumulate", recipe.accumulate, right)
    wanted = (recipe.real_batches_per_step, local, *recipe.image_shape)
    for name, shape, kind in (("images", wanted, np.uint8), ("labels", wanted[:2], np.integer)):
        array = batch.get(name) if isinstance(batch, Mapping) else None
        right = 'give {"images": ..., "labels": ...}, two arrays'
        require(hasattr(array, "dtype"), f"batch[{name!r}]", type(batch if array is None else array), right)
        found = array.shape
        require(found == shape, f"shape of batch[{name!r}]", found, f"must be {shape} on each device, for one update")
        right = f"must be {kind.__name__}"
        require(jnp.issubdtype(array.dtype, kind), f"dtype of batch[{name!r}]", str(array.dtype), right)


def d_step(recipe: Recipe, state: TrainState, images, labels, context: StepContext):
    """Returns the state after one optimizer step of D on a batch of reals and as many fakes, and metrics.

    G does not learn here, but what its forward pass moves (batch statistics, vectors of spectral norm) moves.
    """
    groups = penalty_groups(recipe.penalties_d)

    def gradients(context, images, labels):
        discriminator = augmented_discriminator(recipe, state, context)
        fakes, fake_labels, g_model_state = generate_fakes(recipe, state.g.params, state.g.model_state, labels, context)
        inputs = d_inputs(recipe, images, labels, lax.stop_gradient(fakes), fake_labels, context)
        # Where the same steps take gradients at reals and at fakes (R1 and R2), one pass does both. Otherwise reals and
        # fakes go through D apart, so that a gradient at reals alone (R1) costs no pass back through the fakes.
        intervals = {side: {i for i, group in groups.items() if side in gradients_of(group)} for side in inputs}
        together = intervals["real"] == intervals["fake"]

        def objective(params):
            views, model_state, image_gradients = discriminator.view_both(
                params, state.d.model_state, inputs, gradients_of(recipe.penalties_d), together
            )
            real, fake = views["real"], views["fake"]
            values = recipe.loss.d(real.logits, fake.logits)
            loss = jnp.mean(per_example(values, len(fake.logits), "Loss.d", recipe.loss.d))
            metrics = {"loss/d": loss} | logit_metrics(recipe, real.logits, fake.logits)
            total = loss
            if "direction" in real.outputs:  # SAN: the loss of omega is Wasserstein's, whatever that of the features
                direction = wasserstein_d(real.outputs["direction"], fake.outputs["direction"])
                metrics["san/direction"] = jnp.mean(direction)
                total += metrics["san/direction"]
            if recipe.class_loss is not None:
                metrics["classes/d"] = recipe.class_loss.d(real, fake, context.gather)
                total += recipe.class_loss.weight_d * metrics["classes/d"]
            penalty, running, penalty_metrics = add_up_penalties(groups, views, image_gradients, state.running, context)
            return total + penalty, (model_state, running, as_means(metrics) | penalty_metrics)

        grads, aux = jax.grad(objective, has_aux=True)(state.d.params)
        return grads, g_model_state, *aux

    accumulated = over_microbatches(gradients, recipe.accumulate, context, images, labels)
    grads, g_model_state, model_state, running, metrics = accumulated
    d, metrics = apply_gradients(recipe, "d", state.d, grads, model_state, metrics, context)
    return state.replace(d=d, g=state.g.replace(model_state=g_model_state), running=running), metrics


def g_step(recipe: Recipe, state: TrainState, images, labels, context: StepContext):
    """Returns the state after one optimizer step of G, and metrics; the reals are for losses that compare with them."""
    groups = penalty_groups(recipe.penalties_g)

    def gradients(context, images, labels):
        discriminator = augmented_discriminator(recipe, state, context)

        def objective(params):
            fakes, fake_labels, model_state = generate_fakes(recipe, params, state.g.model_state, labels, context)
            inputs = d_inputs(recipe, images, labels, fakes, fake_labels, context)
            views, _, image_gradients = discriminator.view_both(
                state.d.params,
                state.d.model_state,
                inputs if recipe.g_needs_reals else {"fake": inputs["fake"]},
                gradients_of(recipe.penalties_g),
                together=False,  # no gradient goes through the reals
            )
            fake, logits_real = views["fake"], views["real"].logits if recipe.loss.relativistic else None
            with explain_absent_reals("Loss.g", logits_real is None, "G's side has reals where relativistic=True"):
                values = recipe.loss.g(logits_real, fake.logits)
            values = per_example(values, len(fake.logits), "Loss.g", recipe.loss.g)
            if recipe.top_k_fraction is not None:
                logits = lax.stop_gradient(fake.logits)
                values *= top_k_weights(logits, context.gather(logits), recipe.top_k_fraction(context.images_seen))
            loss = jnp.mean(values)
            metrics, total = {"loss/g": loss}, loss
            if recipe.class_loss is not None:
                metrics["classes/g"] = recipe.class_loss.g(fake, context.gather)
                total += recipe.class_loss.weight_g * metrics["classes/g"]
                if recipe.class_loss.weight_clear is not None:
                    metrics["classes/unclear"] = recipe.class_loss.unclear(fake)
                    total += recipe.class_loss.weight_clear * metrics["classes/unclear"]
            bound = bind_generator(recipe, params, state.g.model_state)
            added = add_up_penalties(groups, views, image_gradients, state.running, context, bound)
            penalty, running, penalty_metrics = added
            return total + penalty, (model_state, running, as_means(metrics) | penalty_metrics)

        grads, aux = jax.grad(objective, has_aux=True)(state.g.params)
        if recipe.augment is not None:
            model_state, running, metrics = aux
            aux = model_state, running, metrics | as_means({"ada/p": discriminator.strength})
        return grads, *aux

    accumulated = over_microbatches(gradients, recipe.accumulate, context, images, labels)
    grads, model_state, running, metrics = accumulated
    g, metrics = apply_gradients(recipe, "g", state.g, grads, model_state, metrics, context)
    return state.replace(g=g, running=running), metrics


def ema_step(recipe: Recipe, state: TrainState) -> TrainState:
    """Returns the state with G's moving averages after this step.

    Batch statistics are averaged like the parameters that they were measured under (Brock et al. 2019).
    """
    images_seen = (state.step + 1).astype(jnp.float32) * recipe.images_per_step

    def averaged(kind, average):
        return ema.update(average, state.g.variables, kind.decay(images_seen, recipe.images_per_step))

    posthoc = {name: averaged(kind, state.posthoc_ema[name]) for name, kind in recipe.posthoc_ema.items()}
    return state.replace(ema=averaged(recipe.ema, state.ema), posthoc_ema=posthoc)


def over_microbatches(function, count: int, context: StepContext, images, labels):
    """Returns the mean of function(context, images, labels) over `count` parts of this device's examples, one by one.

    Every draw belongs to its example, so the mean of gradients is that of the whole batch, up to rounding; only what
    looks at several examples at once (batch statistics, minibatch standard deviation, top-k, means in a penalty or a
    class loss) sees those of its part.
    Each part begins with the same model state: where a forward pass moves an average, it moves by the mean of all.
    """
    if count == 1:
        return function(context, images, labels)

    def one_part(total, part):
        index, *examples = part
        return jax.tree.map(jnp.add, total, function(context._replace(index=index), *examples)), None

    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), (context.index, images, labels))
    index, *examples = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(lambda: function(context._replace(index=index), *examples))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = lax.scan(one_part, zeros, parts)
    return jax.tree.map(lambda x: (x / count).astype(x.dtype), total)


def apply_gradients(recipe: Recipe, name: str, net: NetState, grads, model_state, metrics, context: StepContext):
    """Returns net "g" or "d" after one optimizer step, and metrics; gradients and metrics are averaged over devices."""
    nets = {"g": (recipe.generator, recipe.optimizer_g), "d": (recipe.discriminator, recipe.optimizer_d)}
    module, optimizer = nets[name]
    grads = optimizer.keep_frozen(grads, jax.tree.map(jnp.zeros_like, grads))
    grads, metrics = pmean((grads, metrics), recipe.axis_name)
    updates, opt_state = optimizer.update(grads, net.opt_state, net.params, context.images_seen)
    new = module.normalise_params(optax.apply_updates(net.params, updates))
    params = optimizer.keep_frozen(new, net.params)
    norms = {
        f"norm/grad_{name}": optax.tree.norm(grads),
        f"norm/update_{name}": optax.tree.norm(updates),
        f"norm/param_{name}": optax.tree.norm(params),
    }
    rate = optimizer.values(context.images_seen).get("learning_rate")
    rates = {} if rate is None else {f"lr/{name}": rate}
    return NetState(params, model_state, opt_state), metrics | as_means(norms | rates)


def generate_fakes(recipe: Recipe, params, model_state: dict, labels, context: StepContext):
    """Returns fakes around [-1, 1], their labels, and G's new model state."""
    if recipe.conditional and recipe.fake_labels == "uniform":
        labels = rng.randint(context.keys(context.streams.labels), recipe.generator.num_classes)
    z = rng.normal(context.keys(context.streams.z), (recipe.z_dim,))
    keys = context.keys(context.streams.noise_generator)

    def apply(params):
        variables = {"params": params, **model_state}
        return recipe.generator.apply(variables, z, labels, train=True, keys=keys, mutable=list(model_state))

    images, model_state = rematerialise(apply, recipe.remat)(params)
    return images, labels, model_state


def bind_generator(recipe: Recipe, params, model_state: dict) -> BoundGenerator:
    """Returns G with these parameters, for penalties."""

    def apply(*args, **kwargs):
        return recipe.generator.apply({"params": params, **model_state}, *args, **kwargs)

    return BoundGenerator(apply, recipe.z_dim)


def augmented_discriminator(recipe: Recipe, state: TrainState, context: StepContext) -> AugmentedDiscriminator:
    """Returns D with the augmentation at its present strength."""
    strength = None
    if recipe.augment is not None:
        strength = recipe.augment.strength(state.running.get("augment"), context.images_seen)
    return AugmentedDiscriminator(recipe.discriminator, recipe.augment, strength, recipe.remat)


def d_inputs(recipe: Recipe, images, labels, fakes, fake_labels, context: StepContext) -> dict[str, DInputs]:
    """Returns what D is given of a step, by "real" and "fake"."""
    streams = context.streams
    shared = recipe.augment is not None and recipe.augment.shared_draws
    augment_fake = streams.augment_real if shared else streams.augment_fake
    return {
        "real": DInputs(images, labels, context.keys(streams.noise_real), context.keys(streams.augment_real)),
        "fake": DInputs(fakes, fake_labels, context.keys(streams.noise_fake), context.keys(augment_fake)),
    }


def penalty_groups(penalties) -> dict[int, dict]:
    """Returns penalties by their interval: those of one interval are applied together and share gradients."""
    intervals = sorted({penalty.interval for penalty in penalties.values()})
    return {i: {name: p for name, p in penalties.items() if p.interval == i} for i in intervals}


def gradients_of(penalties) -> frozenset[str]:
    """Returns the sides of whose images, all of them, these penalties want D's gradient."""
    return frozenset(side for penalty in penalties.values() if penalty.nth == 1 for side in penalty.gradients)


def add_up_penalties(groups, views, image_gradients, running: dict, context: StepContext, generator=None):
    """Returns the weighted sum of the penalties, the running scalars after them, and their means as metrics.

    A lazy penalty is computed in every interval-th step only, where it counts `interval` times as much.
    """

    def apply(penalties):
        gradients = image_gradients(gradients_of(penalties))
        sides = {side: view._replace(known_gradient=gradients.get(side)) for side, view in views.items()}
        means, scalars = {}, {}
        for name, penalty in penalties.items():
            inputs = PenaltyInputs(sides.get("real"), sides["fake"], running.get(name, {}), context, generator)
            values, moved = penalty(penalty.see(inputs))
            if penalty.running:
                scalars[name] = moved
            means[name] = jnp.mean(values)
        return means, scalars

    def skip(penalties):
        scalars = {name: running[name] for name, penalty in penalties.items() if penalty.running}
        return {name: jnp.float32(0.0) for name in penalties}, scalars

    total, metrics, after = 0.0, {}, dict(running)
    for interval, penalties in groups.items():
        applied = context.is_due(interval)
        if interval == 1:
            means, scalars = apply(penalties)
        else:
            means, scalars = lax.cond(applied, functools.partial(apply, penalties), functools.partial(skip, penalties))
        after |= scalars
        for name, mean in means.items():
            total += penalties[name].weight(context.images_seen) * interval * mean
            metrics[f"penalty/{name}"] = Mean(mean, applied.astype(jnp.float32))
    return total, after, metrics


def scan_steps(recipe: Recipe, state: TrainState, batches: dict, key: jax.Array):
    """Returns what `train_step` does for several updates: every array of `batches` has a leading axis of steps."""
    state, metrics = lax.scan(lambda s, batch: train_step(recipe, s, batch, key), state, batches)
    return state, sum_metrics(metrics)


class Step:
    """The update of a recipe on devices: step(state, batch, key) -> (state, metrics); the state's buffers are donated.

    State, key and metrics are replicated; `batch` is as `data.batches.Batches` makes it, [D, K, n, b, ...] on the
    devices: D devices, K updates a dispatch. The scalars of the recipe are arguments of the compiled program.
    """

    def __init__(self, recipe: Recipe, devices: Devices):
        check_recipe(recipe)
        right = "give jaxgan.core.parallel.Devices(devices=[...]), or None for all devices"
        require(isinstance(devices, Devices), "devices", devices, right)
        self.devices = devices
        # As arrays: device_put compares Python's floats between processes, and finds them unequal to themselves.
        self.recipe = devices.replicate(jax.tree.map(jnp.asarray, recipe.on_axis(AXIS)))
        self._call = devices.parallelize(scan_steps)

    def __call__(self, state: TrainState, batch: dict, key: jax.Array) -> tuple[TrainState, dict[str, Mean]]:
        return self._call(self.recipe, state, batch, key)

    def compile(self, state: TrainState, batch: dict, key: jax.Array) -> None:
        """Compiles the program for such arguments ahead of its first call."""
        self._call = self.devices.compile(self._call, self.recipe, state, batch, key)


def parallelize(recipe: Recipe, devices: Devices | None = None) -> Step:
    """Returns the update of a recipe on all devices, or on those given.

    Example:
      step = parallelize(recipe)
      state = step.devices.replicate(init_state(recipe, key))
      for batch in Batches(dataset, recipe, step.devices, last_step=100):
          state, metrics = step(state, batch, key)
    """
    return Step(recipe, Devices() if devices is None else devices)
