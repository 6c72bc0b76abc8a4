"""Optimizers and learning-rate schedules, from the `optim_g` and `optim_d` sections of a config."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

SCHEDULES = {
    # progress in [0, 1] to the share of the way from start to end
    "constant": lambda progress: 0.0 * progress,
    "linear": lambda progress: progress,
    "cosine": lambda progress: 0.5 - 0.5 * jnp.cos(jnp.pi * progress),
}


def schedule(kind: str, start: float, end: float, over: float, warmup: float = 0.0) -> Callable:
    """A scalar as a function of images seen: linear from 0 to start in `warmup` images, then to `end` in `over`."""
    share = SCHEDULES[kind]

    def value(images_seen):
        images_seen = jnp.asarray(images_seen, jnp.float32)
        progress = jnp.clip((images_seen - warmup) / max(over, 1.0), 0.0, 1.0)
        ramp = jnp.minimum(images_seen / warmup, 1.0) if warmup else 1.0
        return ramp * (start + (end - start) * share(progress))

    return value


def learning_rate(optim, train_kimg: float) -> Callable:
    """Learning rate as a function of images seen; `decay_kimg` 0 stands for what the warm-up leaves of the run."""
    decay_kimg = optim.decay_kimg or max(train_kimg - optim.warmup_kimg, 0.0)
    return schedule(optim.schedule, optim.lr, optim.lr_end, 1e3 * decay_kimg, 1e3 * optim.warmup_kimg)


OPTIMIZERS = {
    "adam": lambda o, lr: optax.adam(lr, b1=o.b1, b2=o.b2, eps=o.eps),
    "adamw": lambda o, lr: optax.adamw(lr, b1=o.b1, b2=o.b2, eps=o.eps, weight_decay=o.weight_decay),
    "rmsprop": lambda o, lr: optax.rmsprop(lr, decay=o.b2, eps=o.eps, momentum=o.momentum or None),
    "sgd": lambda o, lr: optax.sgd(lr, momentum=o.momentum or None),
}


def make_optimizer(optim, train_kimg: float, images_per_update: int) -> optax.GradientTransformation:
    """The optax optimizer of one net; its own count of updates, times `images_per_update`, drives the schedule."""
    lr = learning_rate(optim, train_kimg)
    optimizer = OPTIMIZERS[optim.name](optim, lambda count: lr(count * images_per_update))
    if optim.clip_norm:
        return optax.chain(optax.clip_by_global_norm(optim.clip_norm), optimizer)
    return optimizer
