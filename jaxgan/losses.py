"""GAN losses: (logits_real, logits_fake), float32 [B] each, to one value an example, [B]; the caller averages.

All are finite, with finite gradients, for any finite logits: logarithms of sigmoids are written as softplus.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
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
