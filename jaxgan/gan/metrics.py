"""Metrics of steps as means, and what both steps measure of D."""

import math

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Mean:
    """A metric as a sum over steps and their number, which is 0 where a lazy penalty was applied in none of them.

    Example:
      >>> float(Mean(6.0, 2.0))
      3.0
    """

    total: jax.Array
    count: jax.Array

    @property
    def value(self) -> jax.Array:
        """The mean as an array, also where a population was trained by `vmap`."""
        return self.total / self.count

    def __float__(self) -> float:
        return float(self.total) / float(self.count) if float(self.count) else math.nan


def as_means(metrics: dict[str, jax.Array]) -> dict[str, Mean]:
    """Returns metrics of one step as means."""
    return {name: Mean(jnp.asarray(value, jnp.float32), jnp.float32(1.0)) for name, value in metrics.items()}


def sum_metrics(metrics: dict[str, Mean]) -> dict[str, Mean]:
    """Returns the means over the leading axis of steps."""
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), metrics)


def logit_metrics(recipe, logits_real, logits_fake) -> dict[str, jax.Array]:
    """Returns means of D's logits, and how often they are on the right side of the decision threshold."""
    threshold = recipe.loss.decision_threshold
    if threshold is None:
        threshold = 0.5 * (logits_real + logits_fake)  # only differences of a pair mean something
    metrics = {
        "logits/real": jnp.mean(logits_real),
        "logits/fake": jnp.mean(logits_fake),
        "acc/real": jnp.mean(logits_real > threshold),
        "acc/fake": jnp.mean(logits_fake < threshold),
    }
    if recipe.augment is not None and recipe.augment.adaptive:
        metrics["ada/sign"] = jnp.mean(jnp.sign(logits_real - threshold))
    return metrics
