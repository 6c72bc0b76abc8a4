"""One GAN update: n steps of D, one step of G, the moving average. Pure; it reads like the algorithm box.

`update(state, batch, key) -> (state, metrics)` runs on each device of the axis `AXIS`, on the device's share of the
batch. Gradients and metrics are averaged over the devices here, in one visible place each; batch norm does its own.
Every draw belongs to an example's index in the global batch, so the number of devices changes nothing but rounding.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxgan.core.errors import lookup
from jaxgan.core.parallel import AXIS
from jaxgan.core.rng import Stream
from jaxgan.gan import augment, ema, schedules
from jaxgan.gan.losses import LOSSES
from jaxgan.gan.objectives import At, Objectives, mirror
from jaxgan.gan.state import Nets, NetState, TrainState
from jaxgan.settings import images_per_step


def real_batches_per_step(config) -> int:
    """Batches of reals that one update consumes: one a D step, and one for G where it compares with reals."""
    matching = schedules.of(config.penalty.fm, "weight", config.train_kimg)
    return config.d_steps + (lookup(LOSSES, config.loss, "config.loss").relativistic or bool(matching))


def normalise(images: jax.Array) -> jax.Array:
    """uint8 in 0..255 to float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def make_update(config, nets: Nets):
    """The update step of a config.

    Returns:
      update(state, batch, key): `batch` is {"images": uint8 [n, b, H, W, C], "labels": int32 [n, b]} with
      n = real_batches_per_step(config) and b examples on this device; `key` is the run's key. The metrics are
      float32 scalars; a lazy penalty is NaN in a step that does not apply it.
    """
    objectives = Objectives(config, nets)
    lr_g, lr_d = (schedules.of(o, "lr", config.train_kimg) for o in (config.optim_g, config.optim_d))
    half_life = schedules.of(config.ema, "half_life_kimg", config.train_kimg)
    step_images = images_per_step(config)
    num_real = real_batches_per_step(config)

    def reals(batch, n, at: At):
        """Batch n of an update, in [-1, 1], mirrored with probability 1/2 if the config says so."""
        images, labels = normalise(batch["images"][n]), batch["labels"][n]
        return mirror(at.keys(Stream.FLIP), images) if config.data.flip else images, labels

    def descend(net: NetState, grads, extra, optimizer, name, metrics):
        """One optimizer step on gradients averaged over the devices."""
        grads, metrics = lax.pmean((grads, metrics), AXIS)
        updates, opt_state = optimizer.update(grads, net.opt_state, net.params)
        params = nets.normalise(optax.apply_updates(net.params, updates))
        metrics |= {
            f"norm/grad_{name}": optax.tree.norm(grads),
            f"norm/update_{name}": optax.tree.norm(updates),
            f"norm/param_{name}": optax.tree.norm(params),
        }
        return NetState(params, extra, opt_state), metrics

    def step_d(d: NetState, aux: dict, g: NetState, images_real, labels, at: At):
        gradient = jax.grad(objectives.d, has_aux=True)
        grads, (extra, metrics) = gradient(d.params, d, g, aux, images_real, labels, at)
        d, metrics = descend(d, grads, extra, nets.optim_d, "d", metrics)
        return d, objectives.average_logits(aux, metrics, at), metrics

    def step_g(g: NetState, aux: dict, d: NetState, images_real, labels, at: At):
        gradient = jax.grad(objectives.g, has_aux=True)
        grads, (extra, metrics, aux) = gradient(g.params, g, d, aux, images_real, labels, at)
        g, metrics = descend(g, grads, extra, nets.optim_g, "g", metrics)
        return g, aux, metrics

    def average(state: TrainState, g: NetState) -> dict:
        """The moving averages of G after this step, as fields of the state."""
        images_seen = (state.step + 1).astype(jnp.float32) * step_images
        new = {"params": g.params, **g.extra}

        def of_width(average, sigma_rel):
            return ema.update(average, new, ema.power_decay(images_seen, step_images, sigma_rel))

        if not config.ema.sigma_rel:
            weight = ema.decay(images_seen, step_images, 1e3 * half_life(images_seen), config.ema.rampup)
            return {"ema": ema.update(state.ema, new, weight)}
        averages = {"ema": of_width(state.ema, config.ema.sigma_rel)}
        if nets.posthoc:
            averages["posthoc"] = {name: of_width(average, float(name)) for name, average in state.posthoc.items()}
        return averages

    def update(state: TrainState, batch, key) -> tuple[TrainState, dict]:
        local = batch["images"].shape[1]
        index = lax.axis_index(AXIS) * local + jnp.arange(local)  # of this device's examples, in the global batch
        seen = state.step.astype(jnp.float32) * step_images

        def at(count, images_seen):
            return At(key, count, images_seen, index, config.batch_size)

        def one_d(carry, n):
            count = state.step * config.d_steps + n  # D steps done
            real = reals(batch, n, at(state.step * num_real + n, seen))
            d, aux, metrics = step_d(*carry, state.g, *real, at(count, count.astype(jnp.float32) * config.batch_size))
            return (d, aux), metrics

        (d, aux), metrics_d = lax.scan(one_d, (state.d, getattr(state, "aux", {})), jnp.arange(config.d_steps))
        real = reals(batch, num_real - 1, at(state.step * num_real + num_real - 1, seen))
        g, aux, metrics_g = step_g(state.g, aux, d, *real, at(state.step, seen))

        metrics = mean_metrics(metrics_d) | metrics_g | {"lr/g": lr_g(seen), "lr/d": lr_d(seen)}
        if objectives.augment is not None:
            metrics["ada/p"] = jnp.float32(objectives.strength(at(state.step, seen), aux))
        if objectives.adaptive:
            adapted = augment.adapt(
                aux["ada_p"], metrics["ada/sign"], step_images, config.augment.target, config.augment.speed_kimg
            )
            aux = aux | {"ada_p": adapted}
        changed = dict(step=state.step + 1, g=g, d=d) | average(state, g) | ({"aux": aux} if aux else {})
        return state.replace(**changed), metrics

    return update


def mean_metrics(metrics: dict) -> dict:
    """Mean over the leading axis; a lazy penalty's over the steps that applied it."""
    return {
        name: (jnp.nanmean if name.startswith("penalty/") else jnp.mean)(values, axis=0)
        for name, values in metrics.items()
    }


def scan_steps(update):
    """Several updates in one dispatch: every array of the batch has a leading axis of steps; metrics are means."""

    def call(state, batches, key):
        state, metrics = lax.scan(lambda s, batch: update(s, batch, key), state, batches)
        return state, mean_metrics(metrics)

    return call
