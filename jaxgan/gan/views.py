"""Defines what the steps of D and of G look at: their examples, their random draws, and D's answers on both sides."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.core import rng
from jaxgan.core.errors import require
from jaxgan.core.parallel import all_gather, pmean
from jaxgan.core.rng import Stream
from jaxgan.gan.augment import Augmentation
from jaxgan.gan.nets import rematerialise, split_answer


class StepStreams(NamedTuple):
    """The streams of random numbers of a step; those of D's steps differ from those of G's."""

    z: Stream
    labels: Stream
    noise_generator: Stream
    noise_real: Stream  # inside D
    noise_fake: Stream
    augment_real: Stream
    augment_fake: Stream


D_STREAMS = StepStreams(
    Stream.Z_D,
    Stream.LABELS_D,
    Stream.NOISE_D_G,
    Stream.NOISE_D_REAL,
    Stream.NOISE_D_FAKE,
    Stream.AUGMENT_D_REAL,
    Stream.AUGMENT_D_FAKE,
)
G_STREAMS = StepStreams(
    Stream.Z_G,
    Stream.LABELS_G,
    Stream.NOISE_G_G,
    Stream.NOISE_G_REAL,
    Stream.NOISE_G_FAKE,
    Stream.AUGMENT_G_REAL,
    Stream.AUGMENT_G_FAKE,
)


class StepContext(NamedTuple):
    """A step of D or of G, and the examples of the global batch that this device has."""

    key: jax.Array  # the run's
    count: jax.Array  # int32, steps of this kind done
    images_seen: jax.Array  # float32, reals that D has seen before this step
    index: jax.Array  # int32 [b], the examples' places in the global batch
    batch_size: int  # global
    streams: StepStreams
    axis_name: str | None  # of the devices that share the batch

    def keys(self, stream: Stream) -> jax.Array:
        """Returns a key an example, [b]."""
        _, batch = stream.value
        return rng.example_keys(rng.stream_key(self.key, stream, self.count), self.index + batch * self.batch_size)

    def every(self, nth: int) -> "StepContext":
        """Returns the context of every nth example."""
        return self._replace(index=self.index[::nth])

    def mean(self, values) -> jax.Array:
        """Returns the mean over the examples of all devices."""
        return pmean(jnp.mean(values), self.axis_name)

    def gather(self, values) -> jax.Array:
        """Returns the values [B, ...] of the examples of all devices from those of this one, [b, ...]."""
        return all_gather(values, self.axis_name)

    def is_due(self, interval: int) -> jax.Array:
        """Returns whether this is an interval-th step, as the last one before a log line always is."""
        return (self.count + 1) % interval == 0


class DInputs(NamedTuple):
    """A batch as D is given it: it may be given other images in the same way."""

    images: jax.Array  # float32 [b, H, W, C], before the augmentation
    labels: jax.Array  # int32 [b]
    noise_keys: jax.Array  # [b], for what is random inside D
    augment_keys: jax.Array  # [b]


class BoundDiscriminator(NamedTuple):
    """D at these variables and inputs, as a function of images in place of those: [b, H, W, C] to logits [b]."""

    discriminator: "AugmentedDiscriminator"
    params: Any
    model_state: dict
    inputs: DInputs

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.discriminator(self.params, self.model_state, self.inputs._replace(images=images))[0]

    def every(self, nth: int) -> "BoundDiscriminator":
        """Returns the same for every nth example."""
        return self._replace(inputs=jax.tree.map(lambda x: x[::nth], self.inputs))


class DView(NamedTuple):
    """What D returns for the reals, or for the fakes, of a step.

    Attributes:
      images, labels: [b, H, W, C] before the augmentation, and [b].
      logits: [b].
      outputs: what D returns beside them, such as "features" [b, F].
      discriminate: maps other images to logits [b], with the augmentation and the random draws of these images.
      known_gradient: of the logits by `images`, through the augmentation, [b, H, W, C]; None unless a penalty of this
        step names these images in its `gradients`. It takes no second forward pass.
      gradient: the same, for penalties: it raises a ConfigError where it is None.
    """

    images: jax.Array
    labels: jax.Array
    logits: jax.Array
    outputs: dict[str, jax.Array]
    discriminate: Callable[[jax.Array], jax.Array]
    known_gradient: jax.Array | None = None

    @property
    def gradient(self) -> jax.Array:
        right = 'name the images whose gradient the penalty looks at, "real" or "fake"'
        require(self.known_gradient is not None, "Penalty.gradients", (), right)
        return self.known_gradient

    def every(self, nth: int, differentiated: bool) -> "DView":
        """Returns the view of every nth example, with a gradient if `differentiated`: by a forward pass of its own."""
        images, labels, logits, outputs = jax.tree.map(lambda x: x[::nth], self[:4])
        discriminate, gradient = self.discriminate.every(nth), None
        if differentiated:
            gradient = jax.grad(lambda x: jnp.sum(discriminate(x)))(images)
        return DView(images, labels, logits, outputs, discriminate, gradient)


class BoundGenerator(NamedTuple):
    """G with the parameters that are being trained: `apply(*args, method=..., **kwargs)` is the module's."""

    apply: Callable[..., Any]
    z_dim: int


class PenaltyInputs(NamedTuple):
    """What a penalty sees of a step.

    Attributes:
      real, fake: views of D; `real` is None in a step of G that needs no reals.
      running: the penalty's own running scalars.
      context: the step, with `keys(stream)`, `mean(values)`, `gather(values)` and `images_seen`.
      generator: in a step of G.
    """

    real: DView | None
    fake: DView
    running: dict[str, jax.Array]
    context: StepContext
    generator: BoundGenerator | None = None


class AugmentedDiscriminator(NamedTuple):
    """D with its augmentation at the present strength, as a function of its variables and inputs."""

    module: nn.Module
    augment: Augmentation | None
    strength: jax.Array | None
    remat: bool = False

    def __call__(self, params, model_state: dict, inputs: DInputs) -> tuple[jax.Array, dict, dict]:
        """Returns logits [b], what D returns beside them, and the new model state."""
        images = inputs.images
        if self.augment is not None:
            images = self.augment(inputs.augment_keys, images, self.strength)

        def apply(params, images):
            return self.module.apply(
                {"params": params, **model_state},
                images,
                inputs.labels,
                train=True,
                keys=inputs.noise_keys,
                mutable=list(model_state),
            )

        answer, new_state = rematerialise(apply, self.remat)(params, images)
        logits, outputs = split_answer(answer)
        return logits, outputs, new_state

    def view(self, params, model_state: dict, inputs: DInputs, differentiated: bool):
        """Returns the view of a batch, the new model state, and, if `differentiated`, a function () -> its gradient."""

        def forward(images):
            logits, *rest = self(params, model_state, inputs._replace(images=images))
            return logits, rest

        gradient = None
        if differentiated:
            logits, pullback, (outputs, new_state) = jax.vjp(forward, inputs.images, has_aux=True)
            gradient = lambda: pullback(jnp.ones_like(logits))[0]  # noqa: E731
        else:
            logits, (outputs, new_state) = forward(inputs.images)
        discriminate = BoundDiscriminator(self, params, model_state, inputs)
        view = DView(inputs.images, inputs.labels, logits, outputs, discriminate)
        return view, new_state, gradient

    def view_both(
        self,
        params,
        model_state: dict,
        inputs: dict[str, DInputs],
        differentiated: frozenset[str],
        together: bool = True,
    ):
        """Returns the views of reals and of fakes.

        With R1 and R2 in the same steps, one pass over both halves gives both gradients; with R1 alone, reals and fakes
        pass apart, and only the reals' pass is differentiated by its images.

        Args:
          inputs: by "real" and "fake".
          differentiated: the sides at whose images gradients will be taken.
          together: whether they may share one pass. They then do, unless a logit depends on its batch. Apart, a
            gradient on one side costs no pass back through the other.

        Returns:
          Views by "real" and "fake", the new model state, and a function of some of the names in `differentiated` that
          returns the gradient of each.
        """
        if together and not self.module.batch_dependent:
            both = jax.tree.map(lambda *pair: jnp.concatenate(pair), inputs["real"], inputs["fake"])
            view, new_state, gradient = self.view(params, model_state, both, bool(differentiated))
            logits, outputs = split_halves(view.logits), split_halves(view.outputs)
            views = {}
            for side, x in inputs.items():
                discriminate = BoundDiscriminator(self, params, model_state, x)
                views[side] = DView(x.images, x.labels, logits[side], outputs[side], discriminate)
            return views, new_state, lambda sides: split_halves(gradient()) if sides else {}
        views, gradients, new_state = {}, {}, model_state
        for side, x in inputs.items():
            # Unless a logit depends on its batch, the new state depends on the parameters alone: both passes make it.
            before = new_state if self.module.batch_dependent else model_state
            views[side], new_state, gradients[side] = self.view(params, before, x, side in differentiated)
        return views, new_state, lambda sides: {side: gradients[side]() for side in sides}


def split_halves(tree) -> dict:
    """Returns the halves of every array of a tree as "real" and "fake"."""
    return {side: jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], tree) for i, side in enumerate(("real", "fake"))}
