"""Colours in coordinates that photographs vary in about equally and apart, for nets to see and to paint."""

import jax
import jax.numpy as jnp


def to_opponent(rgb: jax.Array) -> jax.Array:
    """Returns colours [..., 3] as (R + G + B) / 3, 1.5 (R - B) and 3 (G - (R + B) / 2).

    Red, green and blue are nearly the same in photographs: colour is a few percent of their variance. These three, the
    features of Ohta et al. (1980), are nearly uncorrelated and, with these factors, vary about equally (by 0.48, 0.48
    and 0.38 in CIFAR-10's images in [-1, 1]), so that a net learns colour as it learns brightness.

    Raises:
      ValueError: other than three channels.

    Example:
      >>> to_opponent(jnp.array([[0.5, 0.5, 0.5], [1.0, 0.0, -1.0]])).tolist()
      [[0.5, 0.0, 0.0], [0.0, 3.0, 0.0]]
    """
    red, green, blue = _three(rgb)
    return jnp.stack([(red + green + blue) / 3, 1.5 * (red - blue), 3 * green - 1.5 * (red + blue)], axis=-1)


def from_opponent(x: jax.Array) -> jax.Array:
    """Returns the colours [..., 3] of which `to_opponent` makes x.

    Example:
      >>> from_opponent(jnp.array([0.0, 3.0, 0.0])).tolist()
      [1.0, 0.0, -1.0]
    """
    grey, red_blue, green = _three(x)
    return jnp.stack([grey - green / 9 + red_blue / 3, grey + green * 2 / 9, grey - green / 9 - red_blue / 3], axis=-1)


def _three(x: jax.Array) -> list[jax.Array]:
    if x.shape[-1] != 3:
        raise ValueError(f"colours have 3 channels, not {x.shape[-1]}")
    return [x[..., i] for i in range(3)]
