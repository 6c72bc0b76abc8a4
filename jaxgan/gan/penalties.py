"""Penalties: terms beside the adversarial loss of D or of G, each a value with a weight and an interval.

To add one, write a function of `PenaltyInputs` and a line in `PENALTIES` (then `config.penalty` has a section for it),
or put a `Penalty` into a recipe.

A gradient penalty on a discriminator whose logits depend on the batch (batch norm in D) has no gradient of one example;
its value is then that of the sum of the logits. What looks at several images at once (the means of `fm` and `path`)
sees those that a device takes at once, fewer with `Recipe.accumulate`.
"""

import math
from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.core import rng
from jaxgan.core.errors import ConfigError, function_name, require, require_function, require_whole
from jaxgan.core.parallel import pmean
from jaxgan.core.rng import Stream
from jaxgan.data.pixels import random_flip
from jaxgan.gan.augment import diffaugment
from jaxgan.gan.losses import explain_absent_reals, per_example
from jaxgan.gan.schedules import Schedule, as_schedule, require_range
from jaxgan.gan.views import PenaltyInputs
from jaxgan.models.layers import BaseDiscriminator

LECAM_DECAY = 0.99  # of the averages, a D step (Tseng et al. 2021)
DIFFERENCE = 0.01  # standard deviation of the step of a finite difference, in units of images in [-1, 1]


@flax.struct.dataclass
class Penalty:
    """Something to keep small beside the loss.

    Attributes:
      fn: `PenaltyInputs` to one value an example, [b], or a scalar; the step averages and weighs it. With `running`
        scalars it returns a pair: that, and the scalars after this step.
      weight: schedule of its weight, or a number. R1 papers write gamma / 2 for it.
      interval: it is applied in every interval-th step, lazily (Karras et al. 2020), and counts interval times as much
        then.
      fraction: of the batch that it looks at, one over a whole number n: every n-th example. It weighs as much, and is
        noisier.
      running: scalars that follow the run, as they begin; they are in the training state, equal on all devices.
      net: whose loss it is added to, "d" or "g".
      gradients: at which images ("real", "fake") it looks at the gradient of D's logits, `inputs.real.gradient`; the
        forward pass is shared with the loss.
      needs_reals: a penalty on G that looks at `inputs.real`, so that the step of G needs a real batch.
      compares: whether it compares logits of images of its own with those of the batch. With a D whose logits depend on
        the batch it then looks at all of it.
      fine: whether the differences that it compares are so small that D must be float32 and take each image by itself.

    Example:
      >>> centred = Penalty(lambda inputs: (inputs.real.logits + inputs.fake.logits) ** 2, weight=0.01)
    """

    fn: Callable[[PenaltyInputs], jax.Array | tuple] = flax.struct.field(pytree_node=False)
    weight: Schedule | float = Schedule(1.0)
    interval: int = flax.struct.field(pytree_node=False, default=1)
    fraction: float = flax.struct.field(pytree_node=False, default=1.0)
    running: Mapping[str, float] = flax.struct.field(default_factory=dict)
    net: str = flax.struct.field(pytree_node=False, default="d")
    gradients: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
    needs_reals: bool = flax.struct.field(pytree_node=False, default=False)
    compares: bool = flax.struct.field(pytree_node=False, default=False)
    fine: bool = flax.struct.field(pytree_node=False, default=False)

    def __post_init__(self):
        object.__setattr__(self, "weight", as_schedule(self.weight))
        require_range("Penalty.weight", self.weight)
        require_whole("Penalty.interval", self.interval, 1)
        require_fraction("Penalty.fraction", self.fraction)
        require(self.net in ("d", "g"), "Penalty.net", self.net, "choose d or g")
        sides = isinstance(self.gradients, tuple) and set(self.gradients) <= {"real", "fake"}
        require(sides, "Penalty.gradients", self.gradients, 'give some of ("real", "fake")')
        require_function("Penalty.fn", self.fn, 1, "give a function of PenaltyInputs")
        right = 'give the scalars as they begin, such as {"mean": 0.0}'
        require(isinstance(self.running, Mapping), "Penalty.running", self.running, right)
        for name, scalar in self.running.items():  # numbers, or arrays of them, traced or not
            bad = isinstance(scalar, str) or (isinstance(scalar, float) and math.isnan(scalar))
            require(not bad, f"Penalty.running[{name!r}]", scalar, "give a number")

    @property
    def nth(self) -> int:
        """Which examples it looks at: every nth."""
        return round(1 / self.fraction)

    def require_parts(self, size: int, setting: str = "Penalty.fraction") -> None:
        """Raises a ConfigError unless the images that a device takes at once have such a fraction."""
        right = f"must be one over a divisor of the {size} images that a device takes at once"
        require(size % self.nth == 0, setting, self.fraction, right)

    def require_discriminator(self, discriminator: BaseDiscriminator, setting: str = "Penalty") -> None:
        """Raises a ConfigError unless the penalty means something with this D."""
        if self.fine and jnp.dtype(discriminator.dtype) != jnp.float32:
            dtype = jnp.dtype(discriminator.dtype).name
            raise ConfigError(f"{setting}: takes small differences of logits, which need a D in float32, not {dtype}")
        if self.fine and discriminator.batch_dependent:
            net = type(discriminator).__module__
            raise ConfigError(f"{setting}: needs a D that takes each image by itself, which that of {net} does not")
        if self.compares and discriminator.batch_dependent:
            right = "must be 1, as D's logits depend on the rest of the batch"
            require(self.nth == 1, f"{setting}.fraction", self.fraction, right)

    def see(self, inputs: PenaltyInputs) -> PenaltyInputs:
        """Returns what it sees of a step: all, or its fraction of the examples."""
        if self.nth == 1:
            return inputs
        self.require_parts(len(inputs.context.index))
        sides = {"real": inputs.real, "fake": inputs.fake}
        seen = {side: view and view.every(self.nth, side in self.gradients) for side, view in sides.items()}
        return inputs._replace(context=inputs.context.every(self.nth), **seen)

    def __call__(self, inputs: PenaltyInputs) -> tuple[jax.Array, dict]:
        """Returns what `fn` returns, one value an example or a scalar, and the running scalars after this step."""
        right = "a step of G has reals where the penalty has needs_reals=True"
        with explain_absent_reals("Penalty.fn", inputs.real is None, right):
            values, running = self.fn(inputs), {}
        if self.running:
            pair = isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], Mapping)
            same = pair and jax.tree.map(jnp.shape, dict(values[1])) == jax.tree.map(jnp.shape, inputs.running)
            right = f"must return a pair: values, and the scalars after this step, {', '.join(self.running)}"
            require(same, "Penalty.fn", function_name(self.fn), right)
            values, running = values
        return per_example(values, len(inputs.fake.logits), "Penalty.fn", self.fn), dict(running)


def require_fraction(setting: str, fraction: float) -> None:
    """Raises a ConfigError unless a fraction is one over a whole number."""
    good = isinstance(fraction, float | int) and 0 < fraction <= 1 and abs(1 / fraction - round(1 / fraction)) < 1e-6
    require(good, setting, fraction, "give 1, or one over a whole number such as 0.25")


def squared_norm(gradients: jax.Array) -> jax.Array:
    """Returns the squared norm of each example's gradient [B, H, W, C], summed over pixels, [B]."""
    return jnp.sum(jnp.square(gradients), axis=tuple(range(1, gradients.ndim)))


def r1(inputs: PenaltyInputs) -> jax.Array:
    """Returns |grad D(x)|^2 at reals (Mescheder et al. 2018, eq. 9)."""
    return squared_norm(inputs.real.gradient)


def r2(inputs: PenaltyInputs) -> jax.Array:
    """Returns |grad D(G(z))|^2 at fakes (Mescheder et al. 2018, eq. 9)."""
    return squared_norm(inputs.fake.gradient)


def _squared_slope(view, keys) -> jax.Array:
    """Returns ((D(x + s u) - D(x)) / s)^2, u standard normal: to first order its mean over u is |grad D|^2."""
    moved = view.discriminate(view.images + DIFFERENCE * rng.normal(keys, view.images.shape[1:]))
    return jnp.square((moved.astype(jnp.float32) - view.logits.astype(jnp.float32)) / DIFFERENCE)


def r1_difference(inputs: PenaltyInputs) -> jax.Array:
    """Returns an estimate of R1 by a finite difference in a random direction, without a second derivative."""
    return _squared_slope(inputs.real, inputs.context.keys(Stream.DIFFERENCE_REAL))


def r2_difference(inputs: PenaltyInputs) -> jax.Array:
    """Returns an estimate of R2 by a finite difference in a random direction, without a second derivative."""
    return _squared_slope(inputs.fake, inputs.context.keys(Stream.DIFFERENCE_FAKE))


def one_centred_norm(discriminate, images_a: jax.Array, images_b: jax.Array, mix: jax.Array) -> jax.Array:
    """Returns (|grad D| - 1)^2 at mix * a + (1 - mix) * b, [B] (Gulrajani et al. 2017, eq. 3).

    Args:
      discriminate: images [B, H, W, C] to logits [B].
      mix: in [0, 1), [B].
    """
    mix = mix.reshape(-1, *[1] * (images_a.ndim - 1))
    between = mix * images_a + (1.0 - mix) * images_b
    squared = squared_norm(jax.grad(lambda x: jnp.sum(discriminate(x)))(between))
    # The square root has no derivative at 0: a D that is flat there gets the value 1 and no gradient.
    flat = squared == 0.0
    norm = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squared)))
    return jnp.square(norm - 1.0)


def wgan_gp(inputs: PenaltyInputs) -> jax.Array:
    """Returns (|grad D| - 1)^2 between a real and a fake (Gulrajani et al. 2017; its weight there is 10)."""
    mix = rng.uniform(inputs.context.keys(Stream.INTERPOLATE))
    return one_centred_norm(inputs.real.discriminate, inputs.real.images, inputs.fake.images, mix)


def dragan(inputs: PenaltyInputs) -> jax.Array:
    """Returns (|grad D| - 1)^2 between a real and a disturbed one (Kodali et al. 2017, section 2.3 and code; 10).

    The disturbance is uniform, up to half of the image's own standard deviation. (The code takes the whole batch's,
    which is another at another batch size.)
    """
    keys, images = inputs.context.keys(Stream.DRAGAN), inputs.real.images
    noise, mix = rng.uniform(rng.fold(keys, 0), images.shape[1:]), rng.uniform(rng.fold(keys, 1))
    reach = 0.5 * jnp.std(images, axis=tuple(range(1, images.ndim)), keepdims=True)
    return one_centred_norm(inputs.real.discriminate, images + reach * noise, images, mix)


def _inconsistency(view, keys) -> jax.Array:
    """Returns (D(x) - D(T(x)))^2, T a random flip and a shift (Zhang et al. 2020, eq. 2)."""
    shifted = diffaugment(rng.fold(keys, 1), random_flip(rng.fold(keys, 0), view.images), policy="translation")
    return jnp.square(view.logits - view.discriminate(shifted))


def consistency(inputs: PenaltyInputs) -> jax.Array:
    """Returns how much D's logit on a real changes by a flip and a shift (Zhang et al. 2020; 10)."""
    return _inconsistency(inputs.real, inputs.context.keys(Stream.CONSISTENCY_REAL))


def balanced_consistency(inputs: PenaltyInputs) -> jax.Array:
    """Returns `consistency` on reals plus the same on fakes (Zhao et al. 2021; 10)."""
    return consistency(inputs) + _inconsistency(inputs.fake, inputs.context.keys(Stream.CONSISTENCY_FAKE))


def lecam(inputs: PenaltyInputs) -> tuple[jax.Array, dict]:
    """Returns (D(x) - average on fakes)^2 + (D(G(z)) - average on reals)^2 (Tseng et al. 2021, eq. 4).

    The averages are those of D's logits over the steps so far; in the first step, where there are none, the value is 0.
    The official code has a ReLU inside the squares, the paper has not.
    """
    real, fake, averages = inputs.real.logits, inputs.fake.logits, inputs.running
    started = inputs.context.images_seen > 0
    distance = jnp.square(real - averages["fake"]) + jnp.square(fake - averages["real"])
    decay = jnp.where(started, LECAM_DECAY, 0.0)
    means = {"real": inputs.context.mean(real), "fake": inputs.context.mean(fake)}
    running = {name: decay * averages[name] + (1.0 - decay) * mean for name, mean in means.items()}
    return jnp.where(started, distance, 0.0), running


def feature_matching(inputs: PenaltyInputs) -> jax.Array:
    """Returns |mean f(x) - mean f(G(z))|^2 of D's features, a scalar (Salimans et al. 2016, section 3.1).

    The means are over the batches on all devices.
    """
    real, fake = (jnp.mean(view.outputs["features"], axis=0) for view in (inputs.real, inputs.fake))
    return jnp.sum(jnp.square(pmean(real - fake, inputs.context.axis_name)))


def path_lengths(synthesis, ws, noise, mean, decay: float = 0.01, axis_name: str | None = None):
    """Returns path-length regularisation, (|J^T noise| - running mean)^2, [B] (Karras et al. 2020, section 3.2).

    Args:
      synthesis: styles [B, L, W] to images [B, H, W, C].
      ws: styles, [B, L, W].
      noise: standard normal, of the images' shape; it is scaled by 1 / sqrt(H W) here.
      mean: of the lengths so far, float32; it starts with 0.
      decay: weight of this batch in the new mean.
      axis_name: of the devices that share the batch, to average the mean over them.

    Returns:
      The penalty, and the new mean. A length is the root of the mean over layers of the squared norm over W.
    """
    pixels = noise.shape[1] * noise.shape[2]
    grads = jax.grad(lambda ws: jnp.sum(synthesis(ws) * noise) / pixels**0.5)(ws)
    lengths = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(grads), axis=2), axis=1))  # [B]
    mean = mean + decay * (pmean(jnp.mean(lengths), axis_name) - mean)  # the gradient sees this batch's part of it
    return jnp.square(lengths - mean), lax.stop_gradient(mean)


def path_length(inputs: PenaltyInputs) -> tuple[jax.Array, dict]:
    """Returns `path_lengths` of fakes of its own, for a G with styles (the paper's weight is 2, every 4 steps)."""
    keys, generator = inputs.context.keys(Stream.PATH), inputs.generator
    z, noise_keys = rng.normal(rng.fold(keys, 0), (generator.z_dim,)), rng.fold(keys, 1)
    ws = generator.apply(z, inputs.fake.labels, train=True, keys=noise_keys, method="mapping")
    direction = rng.normal(rng.fold(keys, 2), inputs.fake.images.shape[1:])
    values, mean = path_lengths(
        lambda ws: generator.apply(ws, noise_keys, method="synthesis"),
        ws,
        direction,
        inputs.running["length"],
        axis_name=inputs.context.axis_name,
    )
    return values, {"length": mean}


PENALTIES = {
    "r1": Penalty(r1, gradients=("real",)),
    "r2": Penalty(r2, gradients=("fake",)),
    "r1_difference": Penalty(r1_difference, compares=True, fine=True),
    "r2_difference": Penalty(r2_difference, compares=True, fine=True),
    "gp": Penalty(wgan_gp),
    "dragan": Penalty(dragan),
    "cr": Penalty(consistency, compares=True),
    "bcr": Penalty(balanced_consistency, compares=True),
    "lecam": Penalty(lecam, running={"real": 0.0, "fake": 0.0}),
    "fm": Penalty(feature_matching, net="g", needs_reals=True),
    "path": Penalty(path_length, net="g", running={"length": 0.0}),
}
