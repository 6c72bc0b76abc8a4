"""The training state: one pytree of arrays that holds everything a step changes."""

import contextlib

import flax.errors
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxgan.core import memory, rng
from jaxgan.core.errors import ConfigError, require, summary
from jaxgan.gan.nets import check_net
from jaxgan.gan.recipe import Recipe


@flax.struct.dataclass
class NetState:
    """Arrays of one net; `model_state` has the Flax collections other than parameters (batch statistics, ...)."""

    params: dict
    model_state: dict
    opt_state: optax.OptState

    @property
    def variables(self) -> dict:
        """What `module.apply` takes."""
        return {"params": self.params, **self.model_state}

    def with_variables(self, variables: dict) -> "NetState":
        """Returns this state with other variables and the same optimizer."""
        model_state = dict(variables)
        return self.replace(params=model_state.pop("params"), model_state=model_state)


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes. There are no keys in it: they are a function of the seed and `step`.

    Attributes:
      step: int32, updates done.
      g, d: the two nets.
      ema: variables of the EMA generator, {"params": ..., other collections}.
      posthoc_ema: variables of further averages, by the name of each in the recipe; {} if there are none.
      running: scalars that follow the run, by the name of the penalty or "augment" that they belong to; {} if none.
    """

    step: jax.Array
    g: NetState
    d: NetState
    ema: dict
    posthoc_ema: dict = flax.struct.field(default_factory=dict)
    running: dict = flax.struct.field(default_factory=dict)


def init_state(recipe: Recipe, key: jax.Array) -> TrainState:
    """Returns the state before the first step, a function of the recipe and the run's key only.

    Raises:
      ConfigError: a net cannot be built, or returns something else than `jaxgan.models` says.
    """
    check_recipe(recipe)
    check_key(key)
    examples = {"generator": (recipe.z_dim,), "discriminator": recipe.image_shape}
    for name, shape in examples.items():
        try:
            check_net(getattr(recipe, name), shape, recipe.batch_size)
        except ValueError as error:
            raise ConfigError(f"Recipe.{name}: {error}") from error

    def init_net(module, optimizer, stream, example):
        init_key = rng.stream_key(key, stream)
        keys = rng.example_keys(init_key, jnp.arange(1))
        model_state = dict(module.init(init_key, example, jnp.zeros(1, jnp.int32), train=False, keys=keys))
        params = model_state.pop("params")
        return NetState(params, model_state, optimizer.init(params))

    g = init_net(recipe.generator, recipe.optimizer_g, rng.Stream.INIT_G, jnp.zeros((1, recipe.z_dim)))
    d = init_net(recipe.discriminator, recipe.optimizer_d, rng.Stream.INIT_D, jnp.zeros((1, *recipe.image_shape)))

    def copy():  # an average starts at G's weights but must not share their (donated) buffers
        return jax.tree.map(jnp.copy, g.variables)

    return TrainState(
        step=jnp.int32(0),
        g=g,
        d=d,
        ema=copy(),
        posthoc_ema={name: copy() for name in recipe.posthoc_ema},
        running=jax.tree.map(jnp.float32, _running(recipe)),
    )


def parameter_counts(recipe: Recipe) -> tuple[int, int]:
    """Returns how many parameters G and D have; computes nothing."""
    state = jax.eval_shape(init_state, recipe, jax.eval_shape(lambda: jax.random.key(0)))
    return tuple(sum(x.size for x in jax.tree.leaves(net.params)) for net in (state.g, state.d))


def state_bytes(recipe: Recipe) -> int:
    """Returns how much memory a state takes: parameters, moments of the optimizers, averages; computes nothing."""
    state = jax.eval_shape(init_state, recipe, jax.eval_shape(lambda: jax.random.key(0)))
    return memory.tree_bytes(state)


def check_memory(recipe: Recipe, devices: list) -> None:
    """Raises a ConfigError where the memory of one of these devices of this process cannot even hold the state."""
    there, size = memory.device_bytes(devices[0]), state_bytes(recipe)
    nets = {"g": recipe.generator, "d": recipe.discriminator}
    widths = ", ".join(f"config.model.{name}.channels={net.widths}" for name, net in nets.items())
    taken = memory.describe_bytes(size)
    right = f"a state (parameters, moments, averages) of {taken} cannot be in {memory.describe_bytes(there)} of memory"
    if size > there:
        raise ConfigError(f"{widths}: {right}; narrower nets need less")


def check_recipe(recipe) -> None:
    """Raises a ConfigError unless this is a recipe."""
    require(isinstance(recipe, Recipe), "recipe", type(recipe), "give a Recipe, such as recipe_from_config(config)")


def check_key(key) -> None:
    """Raises a ConfigError unless this is one of JAX's keys."""
    good = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0
    require(good, "key", key, "give a key, such as jax.random.key(0)")


@contextlib.contextmanager
def explain_other_nets():
    """Turns what Flax says of parameters that are not those of the recipe's nets into a ConfigError of the state."""
    try:
        yield
    except (flax.errors.ScopeParamShapeError, flax.errors.ScopeParamNotFoundError) as error:
        anew = "it is the state of other nets; init_state(recipe, key) makes one of these"
        raise ConfigError(f"state: {summary(error)}; {anew}") from error


def check_state(recipe: Recipe, state: TrainState) -> None:
    """Raises a ConfigError unless a state has what the recipe changes beside the nets, whose shapes Flax checks."""
    require(isinstance(state, TrainState), "state", type(state), "give a TrainState, such as init_state(recipe, key)")
    anew = "it is the state of another recipe; init_state(recipe, key) makes one of this"
    running, wanted = (
        {name: sorted(scalars) for name, scalars in x.items()} for x in (state.running, _running(recipe))
    )
    require(running == wanted, "state.running", running, f"must have {wanted or 'none'}: {anew}")
    names, wanted = sorted(state.posthoc_ema), sorted(recipe.posthoc_ema)
    require(names == wanted, "state.posthoc_ema", names, f"must have {wanted or 'none'}: {anew}")
    for name, net, optimizer in (("g", state.g, recipe.optimizer_g), ("d", state.d, recipe.optimizer_d)):
        wanted = jax.eval_shape(optimizer.init, net.params)
        if jax.tree.structure(net.opt_state) != jax.tree.structure(wanted):
            fresh = f"state.{name}.replace(opt_state=recipe.optimizer_{name}.init(state.{name}.params)) begins it anew"
            raise ConfigError(f"state.{name}.opt_state: is not of recipe.optimizer_{name}; {fresh}")


def _running(recipe: Recipe) -> dict:
    """Returns the running scalars of what has any, as they begin."""
    return {name: dict(scalars) for name, scalars in recipe.running.items() if scalars}
