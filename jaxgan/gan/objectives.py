"""What D and what G minimise: loss and penalties on this device's share of a batch, and the figures for the log.

Every draw belongs to an example's index in the global batch (`At.keys`); batch statistics, path lengths and the choice
of the best fakes are those of the batch on all devices of the axis `AXIS`. The caller differentiates and averages.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.core import rng
from jaxgan.core.errors import lookup
from jaxgan.core.parallel import AXIS
from jaxgan.core.rng import Stream
from jaxgan.gan import schedules
from jaxgan.gan.augment import AUGMENTS, diffaugment
from jaxgan.gan.losses import (
    LOSSES,
    class_cross_entropy,
    d2d_cross_entropy,
    feature_matching,
    multi_hinge,
    top_k,
    wasserstein_d,
)
from jaxgan.gan.penalties import consistency, dragan, gradient_penalty, lecam, squared_gradient_norm
from jaxgan.gan.state import Nets, NetState
from jaxgan.models.layers import ANSWERS
from jaxgan.models.stylegan2 import path_length

LECAM_DECAY = 0.99  # of the averages, a D step (Tseng et al. 2021)


class At(NamedTuple):
    """A step of D or of G, and the examples of the global batch that this device has."""

    key: jax.Array  # the run's
    count: jax.Array  # int32, steps of this kind done
    images_seen: jax.Array  # float32, reals that D has seen before it
    index: jax.Array  # int32 [b]
    batch_size: int

    def keys(self, stream: Stream, shift: int = 0) -> jax.Array:
        """A key an example, [b]; another `shift` for another batch of the same size."""
        return rng.example_keys(rng.stream_key(self.key, stream, self.count), self.index + shift * self.batch_size)


class View(NamedTuple):
    """How D looks at a batch of images, so that it can look at others in the same way."""

    labels: jax.Array
    noise: jax.Array  # keys of what is random inside D
    augment: jax.Array | None  # keys of the augmentation; None: there is none


def mirror(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Each image mirrored with probability 1/2."""
    mirrored = rng.uniform(keys) < 0.5
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def lazily(value, interval: int, count: jax.Array, idle):
    """value() in every interval-th step, so that the last one before a log line is one with it; otherwise `idle`."""
    return value() if interval == 1 else lax.cond((count + 1) % interval == 0, value, lambda: idle)


class Objectives:
    """The two objectives of a config; what they need beside their arguments never changes."""

    def __init__(self, config, nets: Nets):
        self.config, self.nets = config, nets
        self.loss = lookup(LOSSES, config.loss, "config.loss")
        self.weights = {
            name: schedules.of(config.penalty[name], "weight", config.train_kimg) for name in config.penalty
        }
        self.top_k = schedules.of(config, "top_k", config.train_kimg)
        self.p = schedules.of(config.augment, "p", config.train_kimg)
        self.classifies = nets.d.num_classes > 0 and nets.d.conditioning != "projection"
        self.adaptive = config.augment.target > 0
        self.augment = None
        if config.augment.name and (self.p or self.adaptive):
            self.augment = lookup(AUGMENTS, config.augment.name, "config.augment.name")

    def generate(self, params, extra, keys_z, keys, labels):
        """Fakes in [-1, 1] and G's new batch statistics."""
        z = rng.normal(keys_z, (self.nets.z_dim,))
        return self.nets.g.apply({"params": params, **extra}, z, labels, train=True, keys=keys, mutable=list(extra))

    def criticise(self, params, extra, images, view: View, p):
        """What D says of images, its logits and what is in `layers.Critic`, each [b, ...]; and its new statistics."""
        if view.augment is not None:
            images = self.augment(view.augment, images, p)
        variables = {"params": params, **extra}
        logits, extra = self.nets.d.apply(
            variables, images, view.labels, train=True, keys=view.noise, mutable=[*extra, ANSWERS]
        )
        return {"logits": logits, **extra.pop(ANSWERS)["answers"]}, extra

    def criticise_both(self, params, extra, real, fake, p):
        """What D says of reals and of fakes, (images, view) each: in one pass, unless a logit depends on its batch."""
        if self.nets.d.mixes_examples:
            says_real, extra = self.criticise(params, extra, *real, p)
            says_fake, extra = self.criticise(params, extra, *fake, p)
        else:
            both = jax.tree.map(lambda *pair: jnp.concatenate(pair), real, fake)
            says, extra = self.criticise(params, extra, *both, p)
            halves = {name: jnp.split(values, 2) for name, values in says.items()}
            says_real, says_fake = ({name: half[i] for name, half in halves.items()} for i in (0, 1))
        return says_real, says_fake, extra

    def class_loss(self, says: dict, labels):
        """How badly D's answers fit the classes of the images, by config.model.conditioning; [b]."""
        if self.config.model.conditioning == "d2dce":
            everyone = lax.all_gather((says["embedding"], labels), AXIS, tiled=True)
            settings = (self.config.aux[name] for name in ("temperature", "margin_own", "margin_other"))
            return d2d_cross_entropy(says["embedding"], says["proxy"], labels, *everyone, *settings)
        loss = {"ac": class_cross_entropy, "multi_hinge": multi_hinge}[self.config.model.conditioning]
        return loss(says["classes"], labels)

    def views(self, at: At, labels, noise: Stream, augment: Stream) -> tuple[View, View]:
        """How D looks at the reals and at the fakes of a step."""
        shifts = (0, 0 if self.config.augment.paired else 1)
        return tuple(
            View(labels, at.keys(noise, i), None if self.augment is None else at.keys(augment, shift))
            for i, shift in enumerate(shifts)
        )

    def strength(self, at: At, aux):
        """p of the augmentation."""
        return aux["ada_p"] if self.adaptive else self.p(at.images_seen)

    def d(self, params, d: NetState, g: NetState, aux: dict, images_real, labels, at: At):
        """D's objective, and (its new statistics, metrics)."""
        p = self.strength(at, aux)
        view_real, view_fake = self.views(at, labels, Stream.NOISE_D, Stream.AUGMENT_D)
        images_fake, _ = self.generate(g.params, g.extra, at.keys(Stream.Z_D), at.keys(Stream.NOISE_D, 2), labels)
        images_fake = lax.stop_gradient(images_fake)
        says_real, says_fake, extra = self.criticise_both(
            params, d.extra, (images_real, view_real), (images_fake, view_fake), p
        )
        logits_real, logits_fake = says_real["logits"], says_fake["logits"]
        value = jnp.mean(self.loss.d(logits_real, logits_fake))
        border = 0.5 * (logits_real + logits_fake) if self.loss.border is None else self.loss.border
        metrics = {
            "loss/d": value,
            "logits/real": jnp.mean(logits_real),
            "logits/fake": jnp.mean(logits_fake),
            "acc/real": jnp.mean(logits_real > border),
            "acc/fake": jnp.mean(logits_fake < border),
        }
        if self.adaptive:
            metrics["ada/sign"] = jnp.mean(jnp.sign(logits_real - border))
        if self.nets.d.san:  # omega's is the Wasserstein loss, whatever that of the features
            metrics["san/direction"] = jnp.mean(wasserstein_d(says_real["direction"], says_fake["direction"]))
            value += metrics["san/direction"]
        if self.classifies:
            metrics["classes/d"] = jnp.mean(self.class_loss(says_real, labels))
            if self.config.aux.fakes:
                metrics["classes/d"] += jnp.mean(self.class_loss(says_fake, labels))
            value += self.config.aux.weight_d * metrics["classes/d"]

        # Reals and fakes see in a penalty what they saw in the loss, and gradients are those at the images that D was
        # given, through the augmentation.
        def critic_real(images):
            return self.criticise(params, d.extra, images, view_real, p)[0]["logits"]

        def critic_fake(images):
            return self.criticise(params, d.extra, images, view_fake, p)[0]["logits"]

        def consistent(critic, logits, images, shift):
            keys = at.keys(Stream.CONSISTENCY, shift)
            shifted = diffaugment(rng.fold(keys, 1), mirror(rng.fold(keys, 0), images), policy="translation")
            return consistency(critic, logits, shifted)

        def around_reals():
            keys = at.keys(Stream.DRAGAN)
            noise = rng.uniform(rng.fold(keys, 0), images_real.shape[1:])
            return dragan(critic_real, images_real, noise, rng.uniform(rng.fold(keys, 1)))

        terms = {
            "r1": lambda: squared_gradient_norm(critic_real, images_real),
            "r2": lambda: squared_gradient_norm(critic_fake, images_fake),
            "gp": lambda: gradient_penalty(
                critic_real, images_real, images_fake, rng.uniform(at.keys(Stream.INTERPOLATE))
            ),
            "dragan": around_reals,
            "cr": lambda: consistent(critic_real, logits_real, images_real, 0),
            "bcr": lambda: (
                consistent(critic_real, logits_real, images_real, 0)
                + consistent(critic_fake, logits_fake, images_fake, 1)
            ),
            "lecam": lambda: self.lecam(logits_real, logits_fake, aux, at),
        }
        for name, term in terms.items():
            if self.weights[name]:
                interval = self.config.penalty[name].interval
                mean = lazily(lambda term=term: jnp.mean(term()), interval, at.count, 0.0)
                value += self.weigh(name, mean, at, metrics)
        return value, (extra, metrics)

    def g(self, params, g: NetState, d: NetState, aux: dict, images_real, labels, at: At):
        """G's objective, and (its new statistics, metrics, the new `aux`)."""
        p = self.strength(at, aux)
        view_real, view_fake = self.views(at, labels, Stream.NOISE_G, Stream.AUGMENT_G)
        images_fake, extra = self.generate(params, g.extra, at.keys(Stream.Z_G), at.keys(Stream.NOISE_G, 2), labels)
        if self.loss.relativistic or self.weights["fm"]:
            says_real, says_fake, _ = self.criticise_both(
                d.params, d.extra, (images_real, view_real), (images_fake, view_fake), p
            )
        else:
            says_real = {"logits": None}
            says_fake, _ = self.criticise(d.params, d.extra, images_fake, view_fake, p)
        logits_fake = says_fake["logits"]
        values = self.loss.g(says_real["logits"], logits_fake)
        if self.top_k.varies or self.top_k.start < 1:
            logits = lax.stop_gradient(logits_fake)
            values *= top_k(logits, lax.all_gather(logits, AXIS, tiled=True), self.top_k(at.images_seen))
        value = jnp.mean(values)
        metrics = {"loss/g": value}
        if self.classifies:
            metrics["classes/g"] = jnp.mean(self.class_loss(says_fake, labels))
            value += self.config.aux.weight_g * metrics["classes/g"]
        if self.weights["fm"]:
            mean = lazily(
                lambda: feature_matching(says_real["features"], says_fake["features"], AXIS),
                self.config.penalty.fm.interval,
                at.count,
                0.0,
            )
            value += self.weigh("fm", mean, at, metrics)
        if self.weights["path"]:
            interval, length = self.config.penalty.path.interval, aux["path_length"]
            mean, length = lazily(
                lambda: self.path(params, g.extra, length, labels, at), interval, at.count, (0.0, length)
            )
            value += self.weigh("path", mean, at, metrics)
            aux = aux | {"path_length": length}
        return value, (extra, metrics, aux)

    def weigh(self, name: str, mean, at: At, metrics: dict):
        """A penalty's share of the objective; its mean goes into the metrics, NaN in a step that skips it."""
        interval = self.config.penalty[name].interval
        due = (at.count + 1) % interval == 0
        metrics[f"penalty/{name}"] = mean if interval == 1 else jnp.where(due, mean, jnp.nan)
        return self.weights[name](at.images_seen) * interval * mean

    def lecam(self, logits_real, logits_fake, aux, at: At):
        started = at.images_seen > 1e3 * self.config.penalty.lecam.start_kimg
        return jnp.where(started, lecam(logits_real, logits_fake, aux["lecam_real"], aux["lecam_fake"]), 0.0)

    def average_logits(self, aux: dict, metrics: dict, at: At) -> dict:
        """`aux` after a D step with these metrics: LeCam's averages, which follow the logits until they begin."""
        if "lecam_real" not in aux:
            return aux
        started = at.images_seen > 1e3 * self.config.penalty.lecam.start_kimg
        decay = jnp.where(started, LECAM_DECAY, 0.0)
        return aux | {
            f"lecam_{of}": decay * aux[f"lecam_{of}"] + (1.0 - decay) * metrics[f"logits/{of}"]
            for of in ("real", "fake")
        }

    def path(self, params, extra, length, labels, at: At):
        """Mean path-length penalty and the new running mean of the lengths, of fakes of its own."""
        keys, variables = at.keys(Stream.PATH), {"params": params, **extra}
        z, noise = rng.normal(rng.fold(keys, 0), (self.nets.z_dim,)), rng.fold(keys, 1)
        ws = self.nets.g.apply(variables, z, labels, train=True, keys=noise, method="mapping")

        def synthesis(ws):
            return self.nets.g.apply(variables, ws, noise, method="synthesis")

        shape = (self.nets.g.image_size, self.nets.g.image_size, self.nets.g.image_channels)
        values, length = path_length(synthesis, ws, rng.normal(rng.fold(keys, 2), shape), length, axis_name=AXIS)
        return jnp.mean(values), length
