"""GAN inversion: the latents of given images, by gradient descent."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxgan.core.errors import require, require_finite, require_whole
from jaxgan.sampling.generator import Generator, render

CANDIDATES = 64  # samples that an inversion may start from


class Inversion(NamedTuple):
    """What was found for each of n images; `Generator.generate` makes `images` from the first three."""

    latents: np.ndarray  # float32 [n, Z], or styles [n, L, W], alike in all layers
    labels: np.ndarray  # int32 [n]
    keys: jax.Array  # noise keys [n]
    images: np.ndarray  # uint8 [n, H, W, C]
    distances: np.ndarray  # float32 [n], to the given images by `image_distance`


def invert(
    generator: Generator, images: np.ndarray, steps: int = 500, *, features: Callable | None = None, seed: int = 0,
    labels=None, starts: int = 4, learning_rate: float = 0.1,
) -> Inversion:  # fmt: skip
    """Finds the latents whose images are nearest to the given ones (after Karras et al. 2020, section 5).

    Adam descends `image_distance` in z, or in w where the net has styles, at a learning rate that falls as a cosine. It
    starts from the `starts` nearest of the first 64 samples of the seed (Bora et al. 2017 restart too), and the best
    result is kept. Noise stays that of the sample.

    Args:
      generator: whose latents are searched.
      images: uint8 [n, H, W, C], of the generator's shape.
      steps: of the descent; 0: the nearest sample.
      features: perceptual features, a jax function of images [B, H, W, C] in [-1, 1] to [B, F]; None: the distance is
        that of pixels alone.
      seed: of the samples to start from.
      labels: class of all images, or int [n]; None: that of the sample.
      starts: descents for each image, 1 .. 64.
      learning_rate: at the start.

    Raises:
      ConfigError: images of another shape or type; labels as in `Generator.sample`; other than 1 .. 64 starts.

    Example:
      found = invert(generator, photos)  # uint8 [n, 32, 32, 3]
      images = generator.generate(found.latents, found.labels, found.keys)  # found.images
    """
    images = np.asarray(images)
    given = f"{images.dtype} {list(images.shape)}"
    fits = images.dtype == np.uint8 and images.shape[1:] == generator.image_shape
    require(fits, "images", given, f"give uint8 [n, {', '.join(map(str, generator.image_shape))}]")
    require_whole("steps", steps)
    require_whole("starts", starts, 1, CANDIDATES)
    require_finite("learning_rate", learning_rate, 0.0)
    distance = functools.partial(_distance, generator.module, features)

    def nearest(target, label):
        z, label, keys, _ = generator.inputs(CANDIDATES, seed, label)
        start = generator.styles(z, label) if generator.has_styles else z
        closest = jnp.argsort(measure(generator.variables, start, label, keys, target))[:starts]
        return start[closest], label[closest], keys[closest]

    def descend(variables, start, *rest):
        found = minimise(lambda x: distance(variables, x, *rest), start, steps, learning_rate)
        return found, distance(variables, found, *rest)

    measure, descend = jax.jit(distance), jax.jit(descend)
    targets = images / np.float32(127.5) - 1.0
    wanted = [None] * len(images) if labels is None else np.broadcast_to(labels, len(images))
    best = []
    for target, label in zip(targets, wanted, strict=True):
        start, label, keys = nearest(target, label)
        found, distances = descend(generator.variables, start, label, keys, target)
        i = jnp.argmin(distances)
        best.append((found[i], label[i], keys[i], distances[i]))
    latents, labels, keys, distances = (jnp.stack(x) for x in zip(*best, strict=True))
    made = generator.generate(latents, labels, keys)
    return Inversion(np.asarray(latents), np.asarray(labels), keys, made, np.asarray(distances))


def minimise(function: Callable, start: jax.Array, steps: int, learning_rate: float) -> jax.Array:
    """Minimises a function [B, ...] -> [B] of each row by itself, by Adam from `start` on.

    The learning rate falls to 0 as a cosine.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1)))

    def step(carry, _):
        x, state = carry
        grads = jax.grad(lambda x: jnp.sum(function(x)))(x)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(x, updates), state), None

    return lax.scan(step, (start, optimizer.init(start)), length=steps)[0][0]


def image_distance(images: jax.Array, targets: jax.Array, features: Callable | None = None) -> jax.Array:
    """Returns the distance of each image to its target, [B].

        mean (x - y)^2 + |f(x) - f(y)|^2 / |f(y)|^2, without features f the first term alone

    Args:
      images: [B, H, W, C] in [-1, 1].
      targets: the same, or one image.
      features: images [B, H, W, C] in [-1, 1] to [B, F].
    """
    pixels = jnp.mean(jnp.square(images - targets), axis=(-3, -2, -1))
    if features is None:
        return pixels
    made, wanted = features(images), features(jnp.broadcast_to(targets, images.shape))
    return pixels + jnp.sum(jnp.square(made - wanted), axis=1) / jnp.sum(jnp.square(wanted), axis=1)


def _distance(module, features, variables, latents, labels, keys, targets) -> jax.Array:
    """Returns `image_distance` of the images of latents [B, Z], or of styles [B, L, W] at their mean over layers."""
    if latents.ndim == 3:
        latents = jnp.broadcast_to(jnp.mean(latents, axis=1, keepdims=True), latents.shape)  # one w, as published
    images = jnp.clip(render(module, variables, latents, labels, keys), -1.0, 1.0)  # as they are shown
    return image_distance(images, targets, features)
