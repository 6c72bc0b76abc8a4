"""Optimizers, from the `optim_g` and `optim_d` sections of a config."""

import optax

from jaxgan.gan import schedules

OPTIMIZERS = {
    # name -> function of the section, the learning rate and b2
    "adam": lambda o, lr, b2: optax.adam(lr, b1=o.b1, b2=b2, eps=o.eps),
    "adamw": lambda o, lr, b2: optax.adamw(lr, b1=o.b1, b2=b2, eps=o.eps, weight_decay=o.weight_decay),
    "rmsprop": lambda o, lr, b2: optax.rmsprop(lr, decay=b2, eps=o.eps, momentum=o.momentum or None),
    "sgd": lambda o, lr, b2: optax.sgd(lr, momentum=o.momentum or None),
}


def make_optimizer(optim, train_kimg: float, images_per_update: int) -> optax.GradientTransformation:
    """The optax optimizer of one net; its own count of updates, times `images_per_update`, drives the schedules.

    Where b2 has a schedule, Adam's bias correction is 1 - b2^count with the present b2, as PyTorch's is when the betas
    of a parameter group are changed (Huang et al. 2024).
    """

    def scheduled(name):
        schedule = schedules.of(optim, name, train_kimg)
        return schedule, lambda count: schedule(count * images_per_update)

    (_, lr), (schedule, b2) = scheduled("lr"), scheduled("b2")
    if schedule.varies:
        optimizer = optax.inject_hyperparams(lambda b2: OPTIMIZERS[optim.name](optim, lr, b2))(b2=b2)
    else:
        optimizer = OPTIMIZERS[optim.name](optim, lr, optim.b2)
    if optim.clip_norm:
        return optax.chain(optax.clip_by_global_norm(optim.clip_norm), optimizer)
    return optimizer
