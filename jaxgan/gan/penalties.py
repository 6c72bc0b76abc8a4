"""Penalties on D: a critic (images [B, H, W, C] -> logits [B]) and images to one value an example, [B].

A critic whose logits mix examples (batch norm in D) has no per-example gradient; a gradient penalty's value is then
that of the sum of the logits.
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


def dragan(critic, images: jax.Array, noise: jax.Array, mix: jax.Array) -> jax.Array:
    """(|grad D| - 1)^2 on the way from an image to a disturbed one, [B] (Kodali et al. 2017, section 2.3 and code).

    Args:
      noise: uniform in [0, 1), as the images; it disturbs by half of an image's standard deviation. (The code takes the
        whole batch's: an image's own is the same at any batch size.)
      mix: uniform in [0, 1), [B]: how far on the way.
    """
    spread = 0.5 * jnp.std(images, axis=tuple(range(1, images.ndim)), keepdims=True)
    return gradient_penalty(critic, images + spread * noise, images, mix)


def consistency(critic, logits: jax.Array, images: jax.Array) -> jax.Array:
    """(D(x) - D(T(x)))^2 from the logits D(x), [B], and `images` T(x), [B] (Zhang et al. 2020, eq. 2)."""
    return jnp.square(logits - critic(images))


def lecam(logits_real, logits_fake, average_real, average_fake) -> jax.Array:
    """(D(x) - average on fakes)^2 + (D(G(z)) - average on reals)^2, [B] (Tseng et al. 2021, eq. 4).

    The averages are those of D's logits over the steps so far, scalars.
    """
    return jnp.square(logits_real - average_fake) + jnp.square(logits_fake - average_real)
