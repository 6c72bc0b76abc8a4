"""What a run begins with where it does not begin from nothing: the weights of another one (config.init_from)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgan import settings
from jaxgan.core.checkpoint import CheckpointError, MissingItem, restore_items
from jaxgan.core.errors import ConfigError, require
from jaxgan.data import DataSpec
from jaxgan.gan.nets import abstract_variables
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import TrainState
from jaxgan.sampling.load import locate

PARTS = ("g", "d", "ema")


class Start(NamedTuple):
    """The weights that a run begins with.

    Attributes:
      arrays: {"g" | "d" | "ema": {path in the net's variables: array}}, as far as they fit.
      facts: where they are from, and what begins anew, in words.
    """

    arrays: dict[str, dict[tuple, np.ndarray]]
    facts: dict[str, str]

    def put_into(self, state: TrainState, recipe: Recipe) -> TrainState:
        """Returns a state before the first step with these weights, and with optimizers that begin at them.

        Averages begin at those of the other run; where "ema" is no part, at G.
        """

        def with_arrays(variables, part):
            flat = traverse_util.flatten_dict(variables) | self.arrays.get(part, {})
            return jax.tree.map(jnp.array, traverse_util.unflatten_dict(flat))  # copies: buffers are donated

        g, d = (getattr(state, name) for name in ("g", "d"))
        g, d = g.with_variables(with_arrays(g.variables, "g")), d.with_variables(with_arrays(d.variables, "d"))
        averages = [with_arrays(g.variables, "ema") for _ in range(1 + len(state.posthoc_ema))]
        return state.replace(
            g=g.replace(opt_state=recipe.optimizer_g.init(g.params)),
            d=d.replace(opt_state=recipe.optimizer_d.init(d.params)),
            ema=averages[0],
            posthoc_ema=dict(zip(state.posthoc_ema, averages[1:], strict=True)),
        )


def read_start(config, recipe: Recipe) -> Start | None:
    """Returns the weights in config.init_from, or None where it is "".

    An array whose shape depends on the number of classes or of channels begins anew where that number is another one.

    Raises:
      ConfigError: there are no such weights, or they do not fit.
    """
    if not config.init_from:
        return None
    path, parts = config.init_from, list(config.init_parts)
    good = bool(parts) and len(set(parts)) == len(parts) and set(parts) <= set(PARTS)
    require(good, "config.init_parts", config.init_parts, f"choose from {', '.join(PARTS)}, each once")
    try:
        items, run, step = restore_items(locate(path), None, parts)
    except MissingItem as error:
        raise ConfigError(f"config.init_parts={config.init_parts}: {error}; take only what is there") from error
    except CheckpointError as error:
        raise ConfigError(f"config.init_from={path!r}: {error}") from error
    saved, data = settings.from_dict(run["config"]), DataSpec(**run["data"])
    fields = dict(num_classes=data.num_classes if saved.model.conditional else 0, image_channels=data.channels)
    arrays, anew = {}, {}
    for part in parts:
        net = recipe.discriminator if part == "d" else recipe.generator
        # What this net would be with the other run's classes and channels is what its weights have to be.
        here, expected = (_shapes(net, recipe.z_dim) for net in (net, net.clone(**fields)))
        there = {key: array.shape for key, array in traverse_util.flatten_dict(items[part]).items()}
        if unfit := [key for key in expected | there if expected.get(key) != there.get(key)]:
            raise ConfigError(f"config.init_from={path!r}: {_mismatch(part, unfit, there, expected, saved, config)}")
        kept = {key for key in here if here[key] == expected.get(key)}
        arrays[part] = {key: value for key, value in traverse_util.flatten_dict(items[part]).items() if key in kept}
        anew[part] = [key for key in here if key not in kept]
    _require_frozen_weights(recipe, anew)
    facts = {"begins with": f"{', '.join(parts)} of step {step:,} of {path}"}
    if "licence" in run:
        facts["their licence"] = run["licence"]
    if any(anew.values()):
        layers = {part: dict.fromkeys(map(_layer, keys)) for part, keys in anew.items() if keys}
        facts["begins anew"] = "; ".join(f"{', '.join(names)} of {part}" for part, names in layers.items())
    return Start(arrays, facts)


def _shapes(net, z_dim: int) -> dict[tuple, tuple]:
    """Returns the shapes of a net's variables by their paths."""
    return {key: x.shape for key, x in traverse_util.flatten_dict(abstract_variables(net, z_dim)).items()}


def _layer(key: tuple) -> str:
    """Returns a path in the variables without the name of the collection, and of a single array, for people."""
    return "/".join(key[1:-1] or key[1:])


def _mismatch(part: str, unfit: list, there: dict, expected: dict, saved, config) -> str:
    """Returns what does not fit, and which settings of the nets differ, as they would be typed."""

    def describe(key):
        shapes = (str(list(shapes[key])) if key in shapes else "absent" for shapes in (there, expected))
        return "{} is {} there and {} here".format("/".join(key[1:]), *shapes)

    old, new = settings.flatten(saved), settings.flatten(config)
    sections = ("model.d.", "model.conditioning", "model.san") if part == "d" else ("model.g.", "model.z_dim")
    sections += ("model.name", "data.image_size")
    differ = {key: old.get(key) for key in new if key.startswith(sections) and old.get(key) != new[key]}
    typed = {key: ",".join(map(str, value)) if isinstance(value, tuple) else value for key, value in differ.items()}
    hint = f"; it was trained with {' '.join(f'--config.{k}={v}' for k, v in typed.items())}" * bool(differ)
    more = f", and {len(unfit) - 3} more" * (len(unfit) > 3)
    return f"{part} does not fit: {'; '.join(map(describe, unfit[:3]))}{more}{hint}"


def _require_frozen_weights(recipe: Recipe, anew: dict) -> None:
    """Raises a ConfigError where something that is to be frozen begins anew."""
    for part, optimizer in (("g", recipe.optimizer_g), ("d", recipe.optimizer_d)):
        for key in anew.get(part, ()):
            if optimizer.is_frozen("/".join(key[1:])):
                right = "begins anew, as classes or channels are others, and has to be trained; freeze less"
                raise ConfigError(f"config.freeze: {part}'s {_layer(key)} {right}")
