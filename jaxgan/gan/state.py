"""What a run is made of: two nets that never change, and one pytree of arrays that does."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxgan.core import rng
from jaxgan.core.parallel import AXIS
from jaxgan.gan import schedules
from jaxgan.gan.optim import make_optimizer
from jaxgan.models import MODELS
from jaxgan.settings import images_per_step, options


class Nets(NamedTuple):
    """Generator and discriminator, with the optimizer of each."""

    g: nn.Module
    d: nn.Module
    optim_g: optax.GradientTransformation
    optim_d: optax.GradientTransformation
    z_dim: int
    normalise: Callable[[dict], dict]  # of a net's parameters, after each optimizer step
    aux: dict[str, float]  # where the scalars of an `AdaptiveState` start
    posthoc: tuple[float, ...]  # widths of the averages of a `PosthocState`


@flax.struct.dataclass
class NetState:
    """Arrays of one net; `extra` holds the Flax collections other than parameters (batch statistics, ...)."""

    params: dict
    extra: dict
    opt_state: optax.OptState


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes. No keys: they are a function of the seed and `step`."""

    step: jax.Array  # int32, updates done
    g: NetState
    d: NetState
    ema: dict  # variables of the averaged generator: {"params": ..., other collections}


@flax.struct.dataclass
class AdaptiveState(TrainState):
    """The state of a run with scalars that follow it. Runs without have none, not even an empty dict, in the state."""

    aux: dict  # float32: ada_p, the strength of augmentation; lecam_real, lecam_fake; path_length


@flax.struct.dataclass
class PosthocState(AdaptiveState):
    """The state of a run that keeps averages of several widths."""

    posthoc: dict  # variables of the averaged generator by the name of a width, such as "0.1"


def make_modules(config, axis_name: str | None = None) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a resolved config; `axis_name` is for what looks at the whole batch in training.

    Before a config is resolved an image has 3 channels and, where there are classes, there are 10 of them.
    """
    model, data = MODELS[config.model.name], config.data
    common = dict(
        image_size=data.image_size,
        image_channels=data.channels or 3,
        num_classes=(data.num_classes or 10) if config.model.conditional else 0,
        dtype=jnp.dtype(config.dtype),
        axis_name=axis_name,
    )
    critic = dict(conditioning=config.model.conditioning, san=config.model.san, embed_dim=config.aux.embed_dim)
    return tuple(
        module(channels=tuple(config.model[f"{net}_channels"]), **fields, **options(config.model[f"{net}_options"]))
        for net, module, fields in (("g", model.Generator, common), ("d", model.Discriminator, common | critic))
    )


def make_generator(config) -> nn.Module:
    """The generator of a resolved config, for use after training."""
    return make_modules(config)[0]


def make_nets(config) -> Nets:
    """Both nets and optimizers of a resolved config."""
    g, d = make_modules(config, AXIS)
    return Nets(
        g=g,
        d=d,
        optim_g=make_optimizer(config.optim_g, config.train_kimg, images_per_step(config)),
        optim_d=make_optimizer(config.optim_d, config.train_kimg, config.batch_size),
        z_dim=config.model.z_dim,
        normalise=getattr(MODELS[config.model.name], "normalise_weights", lambda params: params),
        aux=_aux(config),
        posthoc=tuple(config.ema.posthoc),
    )


def _aux(config) -> dict[str, float]:
    aux = {"ada_p": config.augment.p} if config.augment.target else {}
    if schedules.of(config.penalty.lecam, "weight", config.train_kimg):
        aux |= {"lecam_real": 0.0, "lecam_fake": 0.0}
    if schedules.of(config.penalty.path, "weight", config.train_kimg):
        aux |= {"path_length": 0.0}
    return aux


def create_state(nets: Nets, key: jax.Array) -> TrainState:
    """The state before the first step; a function of the run's key only."""

    def variables(module, stream, example):
        init_key = rng.stream_key(key, stream)
        keys = rng.example_keys(init_key, jnp.arange(1))
        return module.init(init_key, example, jnp.zeros(1, jnp.int32), train=False, keys=keys)

    def net(module, optimizer, stream, example):
        extra = dict(variables(module, stream, example))
        params = extra.pop("params")
        return NetState(params, extra, optimizer.init(params))

    size, channels = nets.g.image_size, nets.g.image_channels
    g = net(nets.g, nets.optim_g, rng.Stream.INIT_G, jnp.zeros((1, nets.z_dim)))
    d = net(nets.d, nets.optim_d, rng.Stream.INIT_D, jnp.zeros((1, size, size, channels)))
    # jnp.copy: the average starts at G's weights but must not share their (donated) buffers.
    ema = jax.tree.map(jnp.copy, {"params": g.params, **g.extra})
    arrays = dict(step=jnp.int32(0), g=g, d=d, ema=ema)
    aux = {name: jnp.float32(value) for name, value in nets.aux.items()}
    if nets.posthoc:
        posthoc = {f"{width:g}": jax.tree.map(jnp.copy, ema) for width in nets.posthoc}
        return PosthocState(**arrays, aux=aux, posthoc=posthoc)
    return AdaptiveState(**arrays, aux=aux) if aux else TrainState(**arrays)
