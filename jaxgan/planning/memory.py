"""What to change where the memory did not suffice, by arithmetic alone: nothing is compiled."""

import jax

from jaxgan.core.memory import describe_bytes, device_bytes
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import state_bytes


def less_memory(recipe: Recipe, wanted: float | None) -> str:
    """Returns in words what a training step may do with less memory.

    Args:
      recipe: what was trained.
      wanted: bytes that were asked for at once and not there, which is what a step computes with; None: not known. A
        part of them does not grow with the batch, so the batch that fits by proportion is an upper bound.
    """
    device = jax.local_devices()[0]
    there, size = device_bytes(device), state_bytes(recipe)
    facts = f"a device has {describe_bytes(there)}, of which the state takes {describe_bytes(size)}"
    advice = "config.accumulate=0 (the batch in parts), config.remat=True, a smaller config.batch_size, narrower nets "
    advice += "(config.model.g.channels) or config.dtype=bfloat16 need less"
    if wanted and wanted > there - size > 0:
        advice += f"; config.batch_size={recipe.batch_size} may be at most about "
        advice += f"{max(1, int(recipe.batch_size * (there - size) / wanted))}"
    return f"{facts}; {advice}; `jaxgan plan` tells more"
