"""Random draws as a function of (seed, step, stream, global example index), never of a chain of splits.

A resumed run needs no saved key, a new consumer of randomness shifts no other one, and a draw belongs
to an example rather than to a device, so the run does not depend on how many devices share the batch.
Keys are typed threefry keys: the same bits on every backend, and safe under `jax.vmap`.
"""

import enum

import jax
import jax.numpy as jnp


class Stream(enum.IntEnum):
    """What a draw is for. Never renumber: the number is part of what makes a run repeatable."""

    INIT_G = 0
    INIT_D = 1
    Z_D = 2  # latents of the fakes that D sees
    Z_G = 3  # latents of G's own step
    FLIP = 4
    NOISE_D = 5  # randomness inside the nets (dropout, noise inputs) in D's step
    NOISE_G = 6
    INTERPOLATE = 7  # position between a real and a fake, for WGAN-GP
    SAMPLE_Z = 8  # latents of `Generator.sample`
    SAMPLE_LABEL = 9
    SAMPLE_NOISE = 10
    AUGMENT_D = 11
    AUGMENT_G = 12
    CONSISTENCY = 13  # what D's answer must not depend on: mirrored or not, and the shift
    DRAGAN = 14  # disturbance of reals
    PATH = 15  # latents, noise in the net and directions of the path-length penalty


def stream_key(key: jax.Array, stream: Stream, step=0) -> jax.Array:
    """Key of one stream at one step."""
    return jax.random.fold_in(jax.random.fold_in(key, step), int(stream))


def example_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """One key an example, [B], from the examples' global indices, int32 [B]."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def fold(keys: jax.Array, number) -> jax.Array:
    """Other keys, [B], for another draw of the same examples."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def normal(keys: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Standard normal draws, [B, *shape], one row a key."""
    return jax.vmap(lambda k: jax.random.normal(k, shape, dtype))(keys)


def truncated_normal(keys: jax.Array, shape: tuple[int, ...], bound) -> jax.Array:
    """Standard normal draws given that they are within +-bound, [B, *shape], one row a key."""
    return jax.vmap(lambda k: jax.random.truncated_normal(k, -bound, bound, shape))(keys)


def uniform(keys: jax.Array, shape: tuple[int, ...] = (), dtype=jnp.float32) -> jax.Array:
    """Uniform draws in [0, 1), [B, *shape], one row a key."""
    return jax.vmap(lambda k: jax.random.uniform(k, shape, dtype))(keys)


def randint(keys: jax.Array, maximum: int) -> jax.Array:
    """Uniform integers in [0, maximum), int32 [B], one a key."""
    return jax.vmap(lambda k: jax.random.randint(k, (), 0, maximum))(keys)
