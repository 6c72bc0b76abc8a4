"""What a run is made of: two nets that never change, and one pytree of arrays that does."""

from typing import NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxgan import rng
from jaxgan.config import images_per_step
from jaxgan.models import MODELS
from jaxgan.optim import make_optimizer
from jaxgan.parallel import AXIS


class Nets(NamedTuple):
    """Generator and discriminator, with the optimizer of each."""

    g: nn.Module
    d: nn.Module
    optim_g: optax.GradientTransformation
    optim_d: optax.GradientTransformation
    z_dim: int


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


def make_generator(config, axis_name: str | None = None) -> nn.Module:
    """The generator of a resolved config; `axis_name` is for batch norm across devices in training."""
    return MODELS[config.model.name].Generator(
        channels=tuple(config.model.g_channels), **_net_fields(config), axis_name=axis_name
    )


def make_nets(config) -> Nets:
    """Both nets and optimizers of a resolved config."""
    return Nets(
        g=make_generator(config, AXIS),
        d=MODELS[config.model.name].Discriminator(
            channels=tuple(config.model.d_channels), **_net_fields(config), axis_name=AXIS
        ),
        optim_g=make_optimizer(config.optim_g, config.train_kimg, images_per_step(config)),
        optim_d=make_optimizer(config.optim_d, config.train_kimg, config.batch_size),
        z_dim=config.model.z_dim,
    )


def _net_fields(config) -> dict:
    return dict(
        image_size=config.data.image_size,
        image_channels=config.data.channels,
        num_classes=config.data.num_classes if config.model.conditional else 0,
        dtype=jnp.dtype(config.dtype),
    )


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
    return TrainState(step=jnp.int32(0), g=g, d=d, ema=ema)
