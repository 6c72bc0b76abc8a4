"""Random draws as a function of (seed, step, stream, global example index), never of a chain of splits.

A resumed run needs no saved key, a new consumer of randomness shifts no other one, and a draw belongs
to an example rather than to a device, so the run does not depend on how many devices share the batch.
Keys are typed threefry keys: the same bits on every backend, and safe under `jax.vmap`.
"""

import enum

import jax
import jax.numpy as jnp


class Stream(enum.Enum):
    """Says what a draw is for: (number of the stream, which of the step's batches of examples draws from it).

    Never renumber: the numbers are part of what makes a run repeatable.
    """

    INIT_G = (0, 0)
    INIT_D = (1, 0)
    FLIP = (4, 0)
    # What the step of D draws, then the step of G: latents, classes of fakes, randomness inside the nets (dropout,
    # noise inputs) and the augmentation.
    Z_D = (2, 0)
    NOISE_D_REAL, NOISE_D_FAKE, NOISE_D_G = (5, 0), (5, 1), (5, 2)
    AUGMENT_D_REAL, AUGMENT_D_FAKE = (11, 0), (11, 1)
    LABELS_D = (16, 0)
    Z_G = (3, 0)
    NOISE_G_REAL, NOISE_G_FAKE, NOISE_G_G = (6, 0), (6, 1), (6, 2)
    AUGMENT_G_REAL, AUGMENT_G_FAKE = (12, 0), (12, 1)
    LABELS_G = (17, 0)
    # What penalties draw.
    INTERPOLATE = (7, 0)  # position between a real and a fake, for WGAN-GP
    CONSISTENCY_REAL, CONSISTENCY_FAKE = (13, 0), (13, 1)  # flip and shift that D's logit must not depend on
    DRAGAN = (14, 0)  # disturbance of reals
    PATH = (15, 0)  # latents, noise in the net and directions of the path-length penalty
    DIFFERENCE_REAL, DIFFERENCE_FAKE = (19, 0), (19, 1)  # step of a finite difference of D
    PENALTY = (18, 0)  # free for penalties that a user adds
    # What a trained generator draws.
    SAMPLE_Z = (8, 0)
    SAMPLE_LABEL = (9, 0)
    SAMPLE_NOISE = (10, 0)


def stream_key(key: jax.Array, stream: Stream, step=0) -> jax.Array:
    """Returns the key of one stream at one step."""
    return jax.random.fold_in(jax.random.fold_in(key, step), stream.value[0])


def example_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """Returns one key an example, [B], from the examples' global indices, int32 [B]."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def fold(keys: jax.Array, number) -> jax.Array:
    """Returns other keys, [B], for another draw of the same examples."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def normal(keys: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Draws standard normal numbers, [B, *shape], one row a key."""
    return jax.vmap(lambda k: jax.random.normal(k, shape, dtype))(keys)


def truncated_normal(keys: jax.Array, shape: tuple[int, ...], bound) -> jax.Array:
    """Draws standard normal numbers given that they are within +-bound, [B, *shape], one row a key."""
    return jax.vmap(lambda k: jax.random.truncated_normal(k, -bound, bound, shape))(keys)


def uniform(keys: jax.Array, shape: tuple[int, ...] = (), dtype=jnp.float32) -> jax.Array:
    """Draws uniform numbers in [0, 1), [B, *shape], one row a key."""
    return jax.vmap(lambda k: jax.random.uniform(k, shape, dtype))(keys)


def randint(keys: jax.Array, maximum: int) -> jax.Array:
    """Draws uniform integers in [0, maximum), int32 [B], one a key."""
    return jax.vmap(lambda k: jax.random.randint(k, (), 0, maximum))(keys)
