"""GAN losses: (logits_real, logits_fake), float32 [B] each, to one value an example, [B]; the caller averages.

All are finite, with finite gradients, for any finite logits: logarithms of sigmoids are written as softplus.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import relu, softplus

PerExample = Callable[[jax.Array, jax.Array], jax.Array]


class Loss(NamedTuple):
    """The two sides of one game."""

    d: PerExample
    g: PerExample
    relativistic: bool = False  # G's loss compares with reals, so its step needs a real batch of its own
    border: float | None = 0.0  # logits above it mean real; None: only differences of logits mean something


def cross_entropy_d(logits_real, logits_fake):
    """-log D(x) - log(1 - D(G(z))), D = sigmoid(logits) (Goodfellow et al. 2014, eq. 1)."""
    return softplus(-logits_real) + softplus(logits_fake)


def minimax_g(logits_real, logits_fake):
    """log(1 - D(G(z))), the saturating form (Goodfellow et al. 2014, eq. 1)."""
    return -softplus(logits_fake)


def non_saturating_g(logits_real, logits_fake):
    """-log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return softplus(-logits_fake)


def hinge_d(logits_real, logits_fake):
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017, eq. 10; Miyato et al. 2018, eq. 16)."""
    return relu(1.0 - logits_real) + relu(1.0 + logits_fake)


def least_squares_d(logits_real, logits_fake):
    """((D(x) - 1)^2 + D(G(z))^2) / 2 (Mao et al. 2017, eq. 9)."""
    return 0.5 * (jnp.square(logits_real - 1.0) + jnp.square(logits_fake))


def least_squares_g(logits_real, logits_fake):
    """(D(G(z)) - 1)^2 / 2 (Mao et al. 2017, eq. 9)."""
    return 0.5 * jnp.square(logits_fake - 1.0)


def wasserstein_d(logits_real, logits_fake):
    """D(G(z)) - D(x) (Arjovsky et al. 2017, eq. 3)."""
    return logits_fake - logits_real


def negative_logits_g(logits_real, logits_fake):
    """-D(G(z)): G's side of the hinge and the Wasserstein game."""
    return -logits_fake


def relativistic_d(logits_real, logits_fake):
    """softplus(-(D(x) - D(G(z)))) on pairs (Jolicoeur-Martineau 2019, eq. 4; Huang et al. 2024, eq. 2)."""
    return softplus(logits_fake - logits_real)


def relativistic_g(logits_real, logits_fake):
    """softplus(-(D(G(z)) - D(x))) on pairs: the same game with the roles exchanged."""
    return softplus(logits_real - logits_fake)


LOSSES = {
    "minimax": Loss(cross_entropy_d, minimax_g),
    "ns": Loss(cross_entropy_d, non_saturating_g),
    "hinge": Loss(hinge_d, negative_logits_g),
    "lsgan": Loss(least_squares_d, least_squares_g, border=0.5),
    "wgan": Loss(wasserstein_d, negative_logits_g, border=None),
    "rpgan": Loss(relativistic_d, relativistic_g, relativistic=True, border=None),
}


def class_cross_entropy(class_logits, labels) -> jax.Array:
    """-log P(y | x), P the softmax of D's class logits [B, K], [B] (AC-GAN, Odena et al. 2017)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(class_logits), labels[:, None], axis=-1)[:, 0]


def multi_hinge(class_logits, labels) -> jax.Array:
    """max(0, 1 - C_y + the largest other C), C D's class logits [B, K >= 2], [B] (Kavalerov et al. 2021)."""
    own = jax.nn.one_hot(labels, class_logits.shape[-1], dtype=bool)
    others = jnp.max(jnp.where(own, -jnp.inf, class_logits), axis=-1)
    return relu(1.0 - jnp.sum(jnp.where(own, class_logits, 0.0), axis=-1) + others)


def d2d_cross_entropy(embedding, proxy, labels, everyone, everyone_labels, temperature, margin_own, margin_other):
    """ReACGAN's data-to-data cross entropy, [b] (D2D-CE, Kang et al. 2021).

    -log(p / (p + sum of n_j)) over the images j of other classes: p = exp(min(f.v - margin_own, 0) / temperature) and
    n_j = exp(max(f.f_j - margin_other, 0) / temperature).

    Args:
      embedding, proxy: f and v [b, E], of this device's images and of their classes, of norm 1.
      labels: [b].
      everyone, everyone_labels: [B, E] and [B], of the images of all devices.
    """
    own = jnp.minimum(jnp.sum(embedding * proxy, axis=-1) - margin_own, 0.0) / temperature
    cosines = jnp.matmul(embedding, everyone.T, precision=lax.Precision.HIGHEST)
    others = jnp.maximum(cosines - margin_other, 0.0) / temperature
    others = jnp.where(labels[:, None] != everyone_labels, others, -jnp.inf)
    return jax.nn.logsumexp(jnp.concatenate([own[:, None], others], axis=-1), axis=-1) - own


def feature_matching(features_real, features_fake, axis_name: str | None = None) -> jax.Array:
    """|mean of f(x) - mean of f(G(z))|^2 from D's features [B, F], a scalar (Salimans et al. 2016, section 3.1).

    The means are over the batches on all devices of `axis_name`.
    """
    difference = jnp.mean(features_real, axis=0) - jnp.mean(features_fake, axis=0)
    if axis_name is not None:
        difference = lax.pmean(difference, axis_name)
    return jnp.sum(jnp.square(difference))


def top_k(logits, everyone, share) -> jax.Array:
    """Weights [b] of mean 1 over the whole batch: equal for the share of it with the highest logits, otherwise 0.

    So that G learns from the fakes that D likes best (Sinha et al. 2020).

    Args:
      logits: [b], of this device's fakes.
      everyone: [B], of those of all devices.
      share: in (0, 1], may be traced; at least one example is kept.
    """
    size = len(everyone)
    kept = jnp.clip(jnp.round(share * size), 1, size)
    lowest = jnp.sort(everyone)[(size - kept).astype(jnp.int32)]
    return jnp.where(logits >= lowest, size / kept, 0.0)
