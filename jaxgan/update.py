"""One GAN update: n steps of D, one step of G, the moving average. Pure; it reads like the algorithm box.

`update(state, batch, key) -> (state, metrics)` runs on each device of the axis `AXIS`, on the device's share of the
batch. Gradients and metrics are averaged over the devices here, in one visible place each; batch norm does its own.
Every draw belongs to an example's index in the global batch, so the number of devices changes nothing but rounding.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxgan import ema, optim, rng
from jaxgan.config import images_per_step, lookup
from jaxgan.losses import LOSSES
from jaxgan.parallel import AXIS
from jaxgan.penalties import gradient_penalty, squared_gradient_norm
from jaxgan.rng import Stream
from jaxgan.state import Nets, NetState, TrainState


def real_batches_per_step(config) -> int:
    """Batches of reals that one update consumes: one a D step, and one for G where its loss compares with reals."""
    return config.d_steps + lookup(LOSSES, config.loss, "config.loss").relativistic


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
    loss = lookup(LOSSES, config.loss, "config.loss")
    lr_g = optim.learning_rate(config.optim_g, config.train_kimg)
    lr_d = optim.learning_rate(config.optim_d, config.train_kimg)
    step_images = images_per_step(config)
    num_real = real_batches_per_step(config)

    def keys_of(key, stream, step, index):
        return rng.example_keys(rng.stream_key(key, stream, step), index)

    def generate(params, extra, keys_z, keys, labels):
        """Fakes in [-1, 1] and G's new batch statistics."""
        z = rng.normal(keys_z, (nets.z_dim,))
        return nets.g.apply({"params": params, **extra}, z, labels, train=True, keys=keys, mutable=list(extra))

    def criticise(params, extra, images, labels, keys):
        """Logits and D's new statistics."""
        return nets.d.apply({"params": params, **extra}, images, labels, train=True, keys=keys, mutable=list(extra))

    def criticise_both(params, extra, images_real, images_fake, labels, keys_real, keys_fake):
        """Logits of reals and fakes: in one pass, unless a logit depends on its batch."""
        if nets.d.mixes_examples:
            logits_real, extra = criticise(params, extra, images_real, labels, keys_real)
            logits_fake, extra = criticise(params, extra, images_fake, labels, keys_fake)
        else:
            pairs = ((images_real, images_fake), (labels, labels), (keys_real, keys_fake))
            logits, extra = criticise(params, extra, *(jnp.concatenate(pair) for pair in pairs))
            logits_real, logits_fake = jnp.split(logits, 2)
        return logits_real, logits_fake, extra

    def reals(batch, n, key, step, index):
        """Batch n of an update, in [-1, 1], mirrored with probability 1/2 if the config says so."""
        images, labels = normalise(batch["images"][n]), batch["labels"][n]
        if config.data.flip:
            count = step * num_real + n
            mirrored = rng.uniform(keys_of(key, Stream.FLIP, count, index)) < 0.5
            images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images, labels

    def penalties(critic_real, critic_fake, images_real, images_fake, keys_mix, count):
        """Weighted sum of the penalties, and each one's mean value (NaN when this D step skips it).

        The two critics differ in their noise only: reals and fakes see in the penalty what they saw in the loss.
        """
        values = {
            "r1": lambda: squared_gradient_norm(critic_real, images_real),
            "r2": lambda: squared_gradient_norm(critic_fake, images_fake),
            "gp": lambda: gradient_penalty(critic_real, images_real, images_fake, rng.uniform(keys_mix)),
        }
        total, metrics = 0.0, {}
        for name, value in values.items():
            weight, interval = config.penalty[name].weight, config.penalty[name].interval
            if not weight:
                continue
            if interval == 1:
                mean = shown = jnp.mean(value())
            else:
                due = (count + 1) % interval == 0  # so that the last step before a log line is one with it
                mean = lax.cond(due, lambda v=value: jnp.mean(v()), lambda: 0.0)
                shown = jnp.where(due, mean, jnp.nan)
            total += weight * interval * mean
            metrics[f"penalty/{name}"] = shown
        return total, metrics

    def step_d(d: NetState, g: NetState, batch, n, step, key, index, batch_size):
        count = step * config.d_steps + n  # D steps done
        images_real, labels = reals(batch, n, key, step, index)
        keys_z = keys_of(key, Stream.Z_D, count, index)
        keys_real, keys_fake, keys_g = (keys_of(key, Stream.NOISE_D, count, index + i * batch_size) for i in range(3))
        keys_mix = keys_of(key, Stream.INTERPOLATE, count, index)
        images_fake, _ = generate(g.params, g.extra, keys_z, keys_g, labels)
        images_fake = lax.stop_gradient(images_fake)

        def objective(params):
            logits_real, logits_fake, extra = criticise_both(
                params, d.extra, images_real, images_fake, labels, keys_real, keys_fake
            )
            value = jnp.mean(loss.d(logits_real, logits_fake))
            border = 0.5 * (logits_real + logits_fake) if loss.border is None else loss.border
            metrics = {
                "loss/d": value,
                "logits/real": jnp.mean(logits_real),
                "logits/fake": jnp.mean(logits_fake),
                "acc/real": jnp.mean(logits_real > border),
                "acc/fake": jnp.mean(logits_fake < border),
            }
            penalty, penalty_metrics = penalties(
                lambda x: criticise(params, d.extra, x, labels, keys_real)[0],
                lambda x: criticise(params, d.extra, x, labels, keys_fake)[0],
                images_real, images_fake, keys_mix, count,
            )  # fmt: skip
            return value + penalty, (extra, metrics | penalty_metrics)

        grads, (extra, metrics) = jax.grad(objective, has_aux=True)(d.params)
        return descend(d, grads, extra, nets.optim_d, "d", metrics)

    def step_g(g: NetState, d: NetState, batch, step, key, index, batch_size):
        images_real, labels = reals(batch, num_real - 1, key, step, index)
        keys_z = keys_of(key, Stream.Z_G, step, index)
        keys_real, keys_fake, keys_g = (keys_of(key, Stream.NOISE_G, step, index + i * batch_size) for i in range(3))

        def objective(params):
            images_fake, extra = generate(params, g.extra, keys_z, keys_g, labels)
            if loss.relativistic:
                logits_real, logits_fake, _ = criticise_both(
                    d.params, d.extra, images_real, images_fake, labels, keys_real, keys_fake
                )
            else:
                logits_real = None
                logits_fake, _ = criticise(d.params, d.extra, images_fake, labels, keys_fake)
            value = jnp.mean(loss.g(logits_real, logits_fake))
            return value, (extra, {"loss/g": value})

        grads, (extra, metrics) = jax.grad(objective, has_aux=True)(g.params)
        return descend(g, grads, extra, nets.optim_g, "g", metrics)

    def descend(net: NetState, grads, extra, optimizer, name, metrics):
        """One optimizer step on gradients averaged over the devices."""
        grads, metrics = lax.pmean((grads, metrics), AXIS)
        updates, opt_state = optimizer.update(grads, net.opt_state, net.params)
        params = optax.apply_updates(net.params, updates)
        metrics |= {
            f"norm/grad_{name}": optax.tree.norm(grads),
            f"norm/update_{name}": optax.tree.norm(updates),
            f"norm/param_{name}": optax.tree.norm(params),
        }
        return NetState(params, extra, opt_state), metrics

    def update(state: TrainState, batch, key) -> tuple[TrainState, dict]:
        local = batch["images"].shape[1]
        index = lax.axis_index(AXIS) * local + jnp.arange(local)  # of this device's examples, in the global batch
        common = dict(step=state.step, key=key, index=index, batch_size=config.batch_size)

        d, metrics_d = lax.scan(
            lambda d, n: step_d(d, state.g, batch, n, **common), state.d, jnp.arange(config.d_steps)
        )
        g, metrics_g = step_g(state.g, d, batch, **common)

        images_seen = (state.step + 1).astype(jnp.float32) * step_images
        weight = ema.decay(images_seen, step_images, 1e3 * config.ema.half_life_kimg, config.ema.rampup)
        average = ema.update(state.ema, {"params": g.params, **g.extra}, weight)

        seen = state.step.astype(jnp.float32) * step_images
        metrics = mean_metrics(metrics_d) | metrics_g | {"lr/g": lr_g(seen), "lr/d": lr_d(seen)}
        return TrainState(state.step + 1, g, d, average), metrics

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
