"""Gradient penalties: a critic (images [B, H, W, C] -> logits [B]) and images to one value an example, [B].

A critic whose logits mix examples (batch norm in D) has no per-example gradient; the value is then that
of the sum of the logits.
"""

import jax
import jax.numpy as jnp


def squared_gradient_norm(critic, images: jax.Array) -> jax.Array:
    """|grad D|^2 at `images`, summed over pixels, [B]: R1 at reals, R2 at fakes (Mescheder et al. 2018, eq. 9).

    With the papers' gamma the weight is gamma / 2.
    """
    grads = jax.grad(lambda x: jnp.sum(critic(x)))(images)
    return jnp.sum(jnp.square(grads), axis=tuple(range(1, images.ndim)))


def gradient_penalty(critic, images_real: jax.Array, images_fake: jax.Array, mix: jax.Array) -> jax.Array:
    """(|grad D| - 1)^2 at mix * real + (1 - mix) * fake, mix in [0, 1), [B] (Gulrajani et al. 2017, eq. 3)."""
    mix = mix.reshape(-1, *[1] * (images_real.ndim - 1))
    squared = squared_gradient_norm(critic, mix * images_real + (1.0 - mix) * images_fake)
    # The square root has no derivative at 0: a critic that is flat there gets the value 1 and no gradient.
    flat = squared == 0.0
    norm = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squared)))
    return jnp.square(norm - 1.0)
