"""What a generator and a discriminator must return, checked before anything is computed; and what a pass back keeps."""

import contextlib
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.core.errors import ConfigError, require
from jaxgan.models.layers import BaseDiscriminator, check_fields
from jaxgan.ops.conv.primitives import conv_input_p, conv_kernel_p, conv_p


def _initialise(net: nn.Module, shape: tuple[int, ...], batch_size: int, key):
    """Returns what a net answers to a batch of zeros, and the variables that it makes."""
    labels, keys = jnp.zeros(batch_size, jnp.int32), jax.random.split(key, batch_size)
    return net.init_with_output(key, jnp.zeros((batch_size, *shape)), labels, train=False, keys=keys)


def input_shape(net: nn.Module, z_dim: int) -> tuple[int, ...]:
    """Returns the shape of one example that a net takes, (z_dim,) of a generator and (H, W, C) of a discriminator."""
    return net.image_shape if isinstance(net, BaseDiscriminator) else (z_dim,)


def abstract_variables(net: nn.Module, z_dim: int) -> dict:
    """Returns the variables of a net without computing them."""
    return jax.eval_shape(lambda key: _initialise(net, input_shape(net, z_dim), 1, key)[1], jax.random.key(0))


@functools.lru_cache(maxsize=256)
def layer_names(net: nn.Module, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Returns the layers of a net by their paths in its parameters, in the order in which it first uses them.

    Example:
      >>> from jaxgan.models import MODELS
      >>> layer_names(MODELS["mlp"][1](image_size=8), (8, 8, 3))
      ('conv_0', 'conv_1', 'logit')
    """
    names = []

    def trace(key):
        params = _initialise(net, shape, 1, key)[1]["params"]  # in the order in which Flax made them
        names.extend(f"{net.body}/{name}".strip("/") for name in (params[net.body] if net.body else params))

    jax.eval_shape(trace, jax.random.key(0))
    return tuple(names)


@functools.lru_cache(maxsize=256)
def check_net(net: nn.Module, shape: tuple[int, ...], batch_size: int) -> None:
    """Builds a net without computing anything; what it raises is for the user to read.

    Args:
      net: a generator or a discriminator.
      shape: of one example, (z_dim,) or (H, W, C).
      batch_size: examples in a batch.

    Raises:
      ValueError: it cannot be built, or returns something else than `jaxgan.models` says.
    """
    check_fields(net)
    returned = jax.eval_shape(lambda key: _initialise(net, shape, batch_size, key)[0], jax.random.key(0))
    if isinstance(net, BaseDiscriminator):
        _check_discriminated(net, returned, batch_size)
        return
    wanted = (batch_size, *net.image_shape)
    if getattr(returned, "shape", None) != wanted:
        raise ValueError(f"the generator returns {_describe(returned)}; it must return images {list(wanted)}")


def _check_discriminated(net: BaseDiscriminator, returned, batch_size: int) -> None:
    """Raises a ValueError unless a discriminator returns what the losses take of it."""
    logits, outputs = split_answer(returned)
    if getattr(logits, "shape", None) != (batch_size,) or not isinstance(outputs, dict):
        right = f"it must return logits [{batch_size}], or (logits, a dict) as self.head does"
        raise ValueError(f"the discriminator returns {_describe(returned)}; {right}")
    made = {key: ["classes"] for key in ("ac", "multi_hinge", "adc")} | {"d2dce": ["embedding", "proxy"]}
    wanted = made.get(net.conditioning, []) * (net.num_classes > 0) + ["direction"] * net.san
    if missing := [name for name in wanted if name not in outputs]:
        lacks = f"the discriminator returns no {' and no '.join(missing)} beside its logits"
        raise ValueError(f"{lacks}; config.model.conditioning and config.model.san take it, and self.head makes it")


def _describe(tree) -> str:
    return str(jax.tree.map(lambda x: list(x.shape), tree))


def split_answer(answer) -> tuple:
    """Returns the logits and the outputs of what a discriminator returned, both or logits alone."""
    return answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, {})


@contextlib.contextmanager
def naming_setting(config, net: str):
    """Turns what a net says of its fields, "field=value: ...", into an error that names the setting."""
    elsewhere = {"image_size": "data.image_size", "conditioning": "model.conditioning", "z_dim": "model.z_dim"}
    try:
        yield
    except ValueError as error:
        field, is_field, _ = str(error).partition("=")
        if is_field and field.isidentifier():
            setting = elsewhere.get(field, f"model.{net}.{field}")
            raise ConfigError(f"config.{setting}{str(error)[len(field) :]}") from error
        if isinstance(error, ConfigError):  # which names its setting
            raise
        raise ConfigError(f"config.model.name={config.model.name!r}: {error}") from error


_PRODUCTS = ("dot_general", conv_p.name, conv_input_p.name, conv_kernel_p.name)


def rematerialise(function, on: bool):
    """Returns `function`, of which, if `on`, a pass back finds only products and convolutions kept.

    All else is computed again then: activations, norms, resampling. It takes no product twice.
    """
    keep = lambda primitive, *_, **__: primitive.name in _PRODUCTS  # noqa: E731
    return jax.checkpoint(function, policy=keep) if on else function


def frozen_parameters(config, name: str, net: nn.Module) -> tuple[str, ...]:
    """Returns the parameters of net "g" or "d" that config.freeze keeps, by their paths."""
    setting, count = f"config.freeze.{name}_layers", config.freeze[f"{name}_layers"]
    if not count and not (name == "g" and config.freeze.mapping):
        return ()
    layers = layer_names(net, input_shape(net, config.model.z_dim))
    most = len(layers) - (name == "d")  # of G, the mapping network may be left to train
    right = f"must be in 0 .. {most}, as the layers are {', '.join(layers)}"
    require(0 <= count <= most, setting, count, right)
    frozen = layers[:count]
    if name == "g" and config.freeze.mapping:
        right = f"{config.model.name} has no mapping network; stylegan2 has"
        require(bool(net.mapping_body), "config.freeze.mapping", True, right)
        frozen += (net.mapping_body,)
    nothing_left = name == "g" and count == most and bool(config.freeze.mapping or not net.mapping_body)
    require(not nothing_left, setting, count, "leaves nothing of G to train")
    setting, value = (setting, count) if count else ("config.freeze.mapping", True)
    right = f"keeps weights that the net begins with, so name a run in config.init_from, with {name} in init_parts"
    require(bool(config.init_from) and name in config.init_parts, setting, value, right)
    return frozen
