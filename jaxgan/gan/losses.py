"""GAN losses: (logits_real, logits_fake), float32 [B] each, to one value an example, [B]; the caller averages.

To add one, write its two sides and a line in `LOSSES`, or put a `Loss` into a recipe. All here are finite, with finite
gradients, for any finite logits: logarithms of sigmoids are written as softplus.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import relu, softplus

from jaxgan.core.errors import ConfigError, function_name, require, summary

PerExample = Callable[[jax.Array, jax.Array], jax.Array]


class Loss(NamedTuple):
    """The two sides of one game, functions of (logits_real, logits_fake).

    Attributes:
      d: what D minimises, [B].
      g: what G minimises, [B]; its logits_real is None unless the loss is relativistic.
      relativistic: whether G's side looks at reals, so that the step of G needs a real batch of its own.
      decision_threshold: logits above it mean real; None: only differences of logits mean something.

    Example:
      >>> squared = Loss(lambda real, fake: (real - 1) ** 2 + fake**2, lambda real, fake: (fake - 1) ** 2)
      >>> float(squared.g(None, jnp.zeros(1))[0])
      1.0
    """

    d: PerExample
    g: PerExample
    relativistic: bool = False
    decision_threshold: float | None = 0.0


def cross_entropy_d(logits_real, logits_fake):
    """Returns -log D(x) - log(1 - D(G(z))), D = sigmoid(logits) (Goodfellow et al. 2014, eq. 1)."""
    return softplus(-logits_real) + softplus(logits_fake)


def minimax_g(logits_real, logits_fake):
    """Returns log(1 - D(G(z))), the saturating form (Goodfellow et al. 2014, eq. 1)."""
    return -softplus(logits_fake)


def non_saturating_g(logits_real, logits_fake):
    """Returns -log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return softplus(-logits_fake)


def hinge_d(logits_real, logits_fake):
    """Returns max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017, eq. 10; Miyato et al. 2018, eq. 16)."""
    return relu(1.0 - logits_real) + relu(1.0 + logits_fake)


def least_squares_d(logits_real, logits_fake):
    """Returns ((D(x) - 1)^2 + D(G(z))^2) / 2 (Mao et al. 2017, eq. 9)."""
    return 0.5 * (jnp.square(logits_real - 1.0) + jnp.square(logits_fake))


def least_squares_g(logits_real, logits_fake):
    """Returns (D(G(z)) - 1)^2 / 2 (Mao et al. 2017, eq. 9)."""
    return 0.5 * jnp.square(logits_fake - 1.0)


def wasserstein_d(logits_real, logits_fake):
    """Returns D(G(z)) - D(x) (Arjovsky et al. 2017, eq. 3)."""
    return logits_fake - logits_real


def negative_logits_g(logits_real, logits_fake):
    """Returns -D(G(z)), G's side of the hinge and the Wasserstein game."""
    return -logits_fake


def relativistic_d(logits_real, logits_fake):
    """Returns softplus(D(G(z)) - D(x)) on pairs (Jolicoeur-Martineau 2019, eq. 4; Huang et al. 2024, eq. 2)."""
    return softplus(logits_fake - logits_real)


def relativistic_g(logits_real, logits_fake):
    """Returns softplus(D(x) - D(G(z))) on pairs, the same game with the roles exchanged."""
    return softplus(logits_real - logits_fake)


def per_example(values, count: int, setting: str, value) -> jax.Array:
    """Returns what a user's function made of `count` examples, one value each or a scalar; refuses anything else.

    Args:
      setting, value: where the function stands, and the function, for the error.
    """
    good = isinstance(values, jax.Array | np.ndarray | float) and jnp.shape(values) in ((), (count,))
    good = good and jnp.issubdtype(jnp.result_type(values), jnp.floating)
    returned = f"{values.dtype} {jnp.shape(values)}" if isinstance(values, jax.Array) else type(values).__name__
    right = f"must return one value an example, ({count},), or a scalar, not {returned}"
    require(good, setting, function_name(value), right)
    return jnp.asarray(values)


@contextlib.contextmanager
def explain_absent_reals(setting: str, absent: bool, right: str):
    """Turns what a user's function raises about a None in place of reals into a ConfigError that says how to get them.

    Args:
      setting: where the function stands.
      absent: whether there are no reals.
      right: what gives them.
    """
    try:
        yield
    except (AttributeError, TypeError) as error:
        if not absent or "NoneType" not in str(error):
            raise
        raise ConfigError(f"{setting}: {summary(error)}; {right}") from error


LOSSES = {
    "minimax": Loss(cross_entropy_d, minimax_g),
    "ns": Loss(cross_entropy_d, non_saturating_g),
    "hinge": Loss(hinge_d, negative_logits_g),
    "lsgan": Loss(least_squares_d, least_squares_g, decision_threshold=0.5),
    "wgan": Loss(wasserstein_d, negative_logits_g, decision_threshold=None),
    "rpgan": Loss(relativistic_d, relativistic_g, relativistic=True, decision_threshold=None),
}


def class_cross_entropy(class_logits, labels) -> jax.Array:
    """Returns -log P(y | x), P the softmax of D's class logits [B, K], [B] (AC-GAN, Odena et al. 2017)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(class_logits), labels[:, None], axis=-1)[:, 0]


def multi_hinge(class_logits, labels) -> jax.Array:
    """Returns max(0, 1 - C_y + the largest other C), C D's class logits [B, K >= 2], [B] (Kavalerov et al. 2021)."""
    own = jax.nn.one_hot(labels, class_logits.shape[-1], dtype=bool)
    others = jnp.max(jnp.where(own, -jnp.inf, class_logits), axis=-1)
    return relu(1.0 - jnp.sum(jnp.where(own, class_logits, 0.0), axis=-1) + others)


def class_of_fakes(class_logits, labels) -> jax.Array:
    """Returns -log P(y, fake | x), P the softmax of D's class logits [B, 2 K], reals first, [B] (ADC-GAN)."""
    return class_cross_entropy(class_logits, labels + class_logits.shape[-1] // 2)


def discriminative_class_g(class_logits, labels) -> jax.Array:
    """Returns log P(y, fake | x) - log P(y, real | x), [B]: G's side of ADC-GAN (Hou et al. 2022, section 3).

    With the best such classifier its mean over fakes is the Kullback-Leibler divergence of G's joint distribution of
    images and classes from that of the data, which wants all images of a class; log P(y | x) wants the typical ones.

    Example:
      >>> bool(discriminative_class_g(jnp.array([[2.0, 0.0, 0.5, 0.0]]), jnp.array([0]))[0] == 0.5 - 2.0)
      True
    """
    return class_cross_entropy(class_logits, labels) - class_of_fakes(class_logits, labels)


def unclear_class(class_logits, labels, confidence) -> jax.Array:
    """Returns max(0, log confidence - log P(y | x)), [B]: how far D is from giving an image's class that probability.

    G minimises -log P(y | x) itself in AC-GAN, whose optimum has the typical images of a class only (Shu et al. 2017);
    with the bound an image that is clear already is left alone, as ReACGAN's margins leave it (Kang et al. 2021).

    Args:
      class_logits: [B, K]; of ADC-GAN's those of reals, so that P(y | x) is P(y | x, real).
      labels: [B].
      confidence: in (0, 1]; may be traced.

    Example:
      >>> logits = jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]]))
      >>> [f"{far:.4f}" for far in unclear_class(logits, jnp.array([0, 0]), 0.8)]  # 0, and log(0.8 / 0.4)
      ['0.0000', '0.6931']
    """
    return relu(jnp.log(confidence) + class_cross_entropy(class_logits, labels))


def d2d_cross_entropy(
    embedding, proxy, labels, all_embeddings, all_labels, temperature=0.5, margin_own=0.98, margin_other=0.02
) -> jax.Array:
    """Returns ReACGAN's data-to-data cross entropy, [b] (D2D-CE, Kang et al. 2021, with the paper's constants).

    -log(p / (p + sum of n_j)) over the images j of other classes: p = exp(min(f.v - margin_own, 0) / temperature) and
    n_j = exp(max(f.f_j - margin_other, 0) / temperature).

    Args:
      embedding, proxy: f and v [b, E], of this device's images and of their classes, with norm 1.
      labels: [b].
      all_embeddings, all_labels: [B, E] and [B], of the images on all devices.
      temperature: of the softmax of cosines.
      margin_own: an image and its class are close enough above this cosine.
      margin_other: images of two classes are far enough apart below this cosine.
    """
    own = jnp.minimum(jnp.sum(embedding * proxy, axis=-1) - margin_own, 0.0) / temperature
    cosines = jnp.matmul(embedding, all_embeddings.T, precision=lax.Precision.HIGHEST)
    others = jnp.maximum(cosines - margin_other, 0.0) / temperature
    others = jnp.where(labels[:, None] != all_labels, others, -jnp.inf)
    return jax.nn.logsumexp(jnp.concatenate([own[:, None], others], axis=-1), axis=-1) - own


@flax.struct.dataclass
class ClassLoss:
    """A loss between D's outputs for the classes and the labels.

    Its functions are (outputs of D, labels [b], gather) -> [b], where gather(x) puts the examples of all devices
    together.

    Attributes:
      fn: what D minimises on reals, and G on its fakes.
      weight_d: the weight in D's loss.
      weight_g: the weight in G's loss.
      on_fakes: whether D minimises it on fakes too (Odena et al. 2017).
      fn_fakes: what D minimises on fakes instead, in any case; None: nothing else.
      fn_g: what G minimises; None: fn.
      fn_unclear: what G minimises beside it with weight `weight_clear`, a function of (outputs of D, labels [b],
        confidence) -> [b]; None: there is no such loss.
      weight_clear: its weight; None: G does not minimise it.
      confidence: the probability of its class from which on D finds a fake clear, in (0, 1].

    Raises:
      ConfigError: where `weight_clear` is given and `fn_unclear` is not.
    """

    fn: Callable = flax.struct.field(pytree_node=False)
    weight_d: float = 1.0
    weight_g: float = 1.0
    on_fakes: bool = flax.struct.field(pytree_node=False, default=False)
    fn_fakes: Callable | None = flax.struct.field(pytree_node=False, default=None)
    fn_g: Callable | None = flax.struct.field(pytree_node=False, default=None)
    fn_unclear: Callable | None = flax.struct.field(pytree_node=False, default=None)
    weight_clear: float | None = None
    confidence: float = 0.8

    def __post_init__(self):
        right = "needs a fn_unclear, as ac and adc have it in CLASS_LOSSES"
        require(self.weight_clear is None or bool(self.fn_unclear), "ClassLoss.weight_clear", self.weight_clear, right)

    def d(self, real, fake, gather) -> jax.Array:
        """Returns the mean of what D minimises, of its views of reals and fakes."""
        loss = jnp.mean(self.fn(real.outputs, real.labels, gather))
        if self.on_fakes or self.fn_fakes:
            loss += jnp.mean((self.fn_fakes or self.fn)(fake.outputs, fake.labels, gather))
        return loss

    def g(self, fake, gather) -> jax.Array:
        """Returns the mean of what G minimises, of D's view of its fakes."""
        return jnp.mean((self.fn_g or self.fn)(fake.outputs, fake.labels, gather))

    def unclear(self, fake) -> jax.Array:
        """Returns the mean of how far fakes are from being clearly of their class, of D's view of them."""
        return jnp.mean(self.fn_unclear(fake.outputs, fake.labels, self.confidence))


def _of_classes(loss: Callable) -> Callable:
    return lambda outputs, labels, gather: loss(outputs["classes"], labels)


# What each value of config.model.conditioning but "projection" adds to both players' losses.
CLASS_LOSSES = {
    "ac": ClassLoss(
        _of_classes(class_cross_entropy),
        fn_unclear=lambda outputs, labels, confidence: unclear_class(outputs["classes"], labels, confidence),
    ),
    "multi_hinge": ClassLoss(_of_classes(multi_hinge)),
    "adc": ClassLoss(
        _of_classes(class_cross_entropy),
        fn_fakes=_of_classes(class_of_fakes),
        fn_g=_of_classes(discriminative_class_g),
        fn_unclear=lambda outputs, labels, confidence: unclear_class(
            jnp.split(outputs["classes"], 2, axis=-1)[0], labels, confidence
        ),
    ),
    "d2dce": ClassLoss(
        lambda outputs, labels, gather: d2d_cross_entropy(
            outputs["embedding"], outputs["proxy"], labels, gather(outputs["embedding"]), gather(labels)
        )
    ),
}


def top_k_weights(logits, all_logits, fraction) -> jax.Array:
    """Returns weights [b] with a mean of 1 over the whole batch: equal for the highest logits, 0 for the others.

    They make G learn from the fakes that D likes best (Sinha et al. 2020).

    Args:
      logits: [b], of this device's fakes.
      all_logits: [B], of the fakes on all devices.
      fraction: how much of the batch is kept, in (0, 1], may be traced; at least one example is.

    Example:
      >>> logits = jnp.array([3.0, 1.0, 2.0, 0.0])
      >>> top_k_weights(logits, logits, 0.5).tolist()
      [2.0, 0.0, 2.0, 0.0]
    """
    size = len(all_logits)
    kept = jnp.clip(jnp.round(fraction * size), 1, size)
    lowest = jnp.sort(all_logits)[(size - kept).astype(jnp.int32)]
    return jnp.where(logits >= lowest, size / kept, 0.0)
