"""Standing statistics of batch norm: means over fresh samples in place of the running averages of training."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import traverse_util


def batch_norm_moments(variables: dict) -> dict[tuple, jax.Array]:
    """Returns the running mean and variance of each batch norm by their paths in the collection "batch_stats".

    Spectral norm keeps its vectors in the same collection under other names; they are left out.
    """
    stats = traverse_util.flatten_dict(variables.get("batch_stats", {}))
    return {path: value for path, value in stats.items() if path[-1] in ("mean", "var")}


def replace_moments(variables: dict, moments: dict[tuple, jax.Array]) -> dict:
    """Returns the variables with other running moments, in the form that `batch_norm_moments` gives them."""
    stats = traverse_util.flatten_dict(variables["batch_stats"]) | moments
    return {**variables, "batch_stats": traverse_util.unflatten_dict(stats)}


def measure_moments(module, variables: dict, z, labels, keys) -> dict[tuple, jax.Array]:
    """Returns mean and variance of this one batch at each batch norm, in the form of `batch_norm_moments`; pure.

    Training updates the running moments r to m * r + (1 - m) * batch. The update is affine in r, so its value and its
    derivative at r = 0 give the moments of the batch for any momentum m.
    """

    def update(moments):
        state = module.apply(
            replace_moments(variables, moments), z, labels, train=True, keys=keys, mutable="batch_stats"
        )[1]
        return batch_norm_moments(state)

    zeros = jax.tree.map(jnp.zeros_like, batch_norm_moments(variables))
    weighted, momentum = jax.jvp(update, (zeros,), (jax.tree.map(jnp.ones_like, zeros),))
    return jax.tree.map(lambda new, m: new / (1.0 - m), weighted, momentum)


_measure_moments = jax.jit(measure_moments, static_argnums=0)


def standing_statistics(module, variables: dict, batches: Iterable[tuple]) -> dict:
    """Returns the variables with the moments of batch norm measured anew (Brock et al. 2019, section 3.1).

    They become the plain means over the batches of each batch's means and variances. All other variables, the vectors
    of spectral norm too, stay.

    Args:
      module: the generator.
      variables: its Flax variables; there must be a batch norm among them.
      batches: (latents [B, Z], labels [B], noise keys [B]), at least one.
    """
    moments = [_measure_moments(module, variables, *batch) for batch in batches]
    return replace_moments(variables, jax.tree.map(lambda *x: sum(x) / len(x), *moments))
