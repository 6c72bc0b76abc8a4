"""Optimizers whose scalars are arguments of the compiled step, so that another learning rate compiles nothing anew."""

from collections.abc import Callable, Mapping

import flax.struct
import jax
import optax
from jax.typing import ArrayLike

from jaxgan.core.errors import require
from jaxgan.gan.schedules import Schedule, as_schedule


@flax.struct.dataclass
class Optimizer:
    """An optax optimizer made anew in each step from the present values of its scalars.

    Where b2 has a schedule, Adam's bias correction is 1 - b2^count with the present b2, as PyTorch's is when the betas
    of a parameter group are changed (Huang et al. 2024).

    Attributes:
      make: (**scalars) -> optax.GradientTransformation; the structure of its state must not depend on the scalars.
      scalars: a schedule each, or a number.
      frozen: paths of parameters that stay as they are, such as "conv_0a" for all below it.

    Example:
      >>> optimizer = Optimizer(optax.sgd, {"learning_rate": 0.1})
      >>> state = optimizer.init({"w": 1.0})
      >>> updates, state = optimizer.update({"w": 2.0}, state, {"w": 1.0}, images_seen=0)
      >>> float(updates["w"])
      -0.20000000298023224
    """

    make: Callable[..., optax.GradientTransformation] = flax.struct.field(pytree_node=False)
    scalars: Mapping[str, Schedule | float] = flax.struct.field(default_factory=dict)
    frozen: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())

    def __post_init__(self):
        require(callable(self.make), "Optimizer.make", self.make, "give a function such as optax.adam")
        right = 'give the scalars by name, such as {"learning_rate": 1e-3}'
        require(isinstance(self.scalars, Mapping), "Optimizer.scalars", self.scalars, right)
        schedules = {name: as_schedule(scalar) for name, scalar in self.scalars.items()}
        object.__setattr__(self, "scalars", schedules)
        for name, schedule in schedules.items():
            right = "give a Schedule or a number"
            require(isinstance(schedule, Schedule), f"Optimizer.scalars[{name!r}]", schedule, right)

    def values(self, images_seen: ArrayLike) -> dict[str, jax.Array]:
        """Returns the scalars after so many real images."""
        return {name: schedule(images_seen) for name, schedule in self.scalars.items()}

    def init(self, params: optax.Params) -> optax.OptState:
        """Returns the state before the first update."""
        return self._made(0).init(params)

    def update(
        self, grads: optax.Updates, opt_state: optax.OptState, params: optax.Params, images_seen: ArrayLike
    ) -> tuple[optax.Updates, optax.OptState]:
        """Returns what to add to the parameters, and the new state."""
        return self._made(images_seen).update(grads, opt_state, params)

    def is_frozen(self, path: str) -> bool:
        """Returns whether the parameter at a path, such as "conv_0a/kernel", stays as it is."""
        return any(f"{path}/".startswith(f"{frozen}/") for frozen in self.frozen)

    def keep_frozen(self, new: optax.Params, old: optax.Params) -> optax.Params:
        """Returns the tree `new`, such as parameters or gradients, with the frozen leaves of `old`."""
        return jax.tree.map(lambda label, n, o: o if label == "frozen" else n, self._labels(new), new, old)

    def _made(self, images_seen) -> optax.GradientTransformation:
        made = self.make(**self.values(images_seen))
        if not self.frozen:
            return made
        # What is frozen has no moments, and no part in the norm that gradients are clipped by.
        return optax.partition({"trained": made, "frozen": optax.set_to_zero()}, self._labels)

    def _labels(self, params):
        def label(path, _):
            return "frozen" if self.is_frozen("/".join(str(entry.key) for entry in path)) else "trained"

        return jax.tree_util.tree_map_with_path(label, params) if self.frozen else jax.tree.map(lambda _: "", params)


def as_optimizer(optimizer: Optimizer | optax.GradientTransformation) -> Optimizer:
    """Returns an `Optimizer`; one of optax's own keeps the scalars that it was made with."""
    return optimizer if isinstance(optimizer, Optimizer) else Optimizer(lambda: optimizer)


def _clipped(optimizer, clip_norm):
    return optimizer if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def adam(learning_rate, b1, b2, eps, clip_norm=None):
    """Returns Adam (Kingma & Ba 2015), after clipping the gradient's global norm to `clip_norm`, if given."""
    return _clipped(optax.adam(learning_rate, b1=b1, b2=b2, eps=eps), clip_norm)


def adamw(learning_rate, b1, b2, eps, weight_decay=0.0, clip_norm=None):
    """Returns Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return _clipped(optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay), clip_norm)


def rmsprop(learning_rate, b2, eps, momentum=None, clip_norm=None):
    """Returns RMSProp (Tieleman & Hinton 2012); `b2` is the decay of the squared gradients."""
    return _clipped(optax.rmsprop(learning_rate, decay=b2, eps=eps, momentum=momentum), clip_norm)


def sgd(learning_rate, momentum=None, clip_norm=None):
    """Returns gradient descent, with momentum if given."""
    return _clipped(optax.sgd(learning_rate, momentum=momentum), clip_norm)


OPTIMIZERS = {
    # name: (maker, scalars that it always has, scalars that it has where they are not 0)
    "adam": (adam, ("b1", "b2", "eps"), ("clip_norm",)),
    "adamw": (adamw, ("b1", "b2", "eps"), ("weight_decay", "clip_norm")),
    "rmsprop": (rmsprop, ("b2", "eps"), ("momentum", "clip_norm")),
    "sgd": (sgd, (), ("momentum", "clip_norm")),
}
