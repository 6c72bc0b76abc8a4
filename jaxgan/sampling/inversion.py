"""GAN inversion: the latents of given images, by gradient descent."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
        that of pixels alone. `pyramid` needs no network.
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
    wanted = [None] * len(images) if labels is None else np.broadcast_to(labels, len(images))
    _check(generator, images, steps, starts, learning_rate)
    options = dict(features=features, seed=seed, starts=starts, learning_rate=learning_rate, every=max(steps, 1))
    ends = []
    for image, label in zip(images, wanted, strict=True):
        *_, (_, end) = approach(generator, image, steps, label=label, **options)
        ends.append(end)
    latents, labels, keys, made, distances = zip(*ends, strict=True)
    latents, labels, made, distances = (np.concatenate(x) for x in (latents, labels, made, distances))
    return Inversion(latents, labels, jnp.concatenate(keys), made, distances)


def approach(
    generator: Generator, image: np.ndarray, steps: int = 300, *, features: Callable | None = None, seed: int = 0,
    label=None, starts: int = 4, learning_rate: float = 0.1, every: int = 10,
) -> Iterator[tuple[int, Inversion]]:  # fmt: skip
    """Yields how near `invert` has come to one image: the steps done, 0 first and all last, and the best so far.

    Whoever has seen enough stops asking. Equal arguments give equal results, however many steps lie between them.

    Args:
      image: uint8 [H, W, C]; `label` is its class, and the other arguments are those of `invert`.
      every: steps between results.

    Example:
      for step, found in approach(generator, photo, features=pyramid):
          print(step, found.distances[0])  # found.images[0] is what it looks like
    """
    image = np.asarray(image)
    _check(generator, image[None], steps, starts, learning_rate)
    require_whole("every", every, 1)
    module, variables, target = generator.module, generator.variables, image / np.float32(127.5) - 1.0

    z, labels, keys, _ = generator.inputs(CANDIDATES, seed, label)
    latents = generator.styles(z, labels) if generator.has_styles else z
    measured = _measure(module, features, variables, latents, labels, keys, target)
    nearest = jnp.argsort(measured)[:starts]
    latents, rest = latents[nearest], (jnp.asarray(labels)[nearest], keys[nearest], target)

    def best(distances) -> Inversion:
        i = jnp.argmin(distances)[None]
        found = np.asarray(latents[i]), np.asarray(rest[0][i]), rest[1][i]
        return Inversion(*found, generator.generate(*found), np.asarray(distances[i]))

    yield 0, best(measured[nearest])
    descent = functools.partial(_descend, module, features, steps, learning_rate)
    state = _optimizer(steps, learning_rate).init(latents)
    for step in range(1, steps + 1):
        latents, state = descent(variables, latents, state, *rest)
        if step % every == 0 or step == steps:
            yield step, best(_measure(module, features, variables, latents, *rest))


def pyramid(images: jax.Array) -> jax.Array:
    """Returns what images show at each scale, [B, F]: a Laplacian pyramid (Burt & Adelson 1983) of means of 2 x 2.

    Each level weighs alike, though each has a quarter of the numbers of the one before, so that shapes count as much
    as the grain of surfaces.

    Args:
      images: [B, H, W, C].

    Example:
      >>> pyramid(jnp.ones((2, 8, 8, 3))).shape  # 8 x 8, 4 x 4 and 2 x 2 pixels
      (2, 252)
    """
    levels, weight = [], 1.0
    while min(images.shape[1:3]) >= 4:
        height, width = (side // 2 * 2 for side in images.shape[1:3])
        images = images[:, :height, :width]
        coarse = images.reshape(len(images), height // 2, 2, width // 2, 2, -1).mean((2, 4))
        levels.append(weight * (images - coarse.repeat(2, 1).repeat(2, 2)))
        images, weight = coarse, 2.0 * weight
    return jnp.concatenate([level.reshape(len(level), -1) for level in [*levels, weight * images]], axis=1)


def _check(generator: Generator, images: np.ndarray, steps, starts, learning_rate) -> None:
    given = f"{images.dtype} {list(images.shape)}"
    fits = images.dtype == np.uint8 and images.shape[1:] == generator.image_shape
    require(fits, "images", given, f"give uint8 [n, {', '.join(map(str, generator.image_shape))}]")
    require_whole("steps", steps)
    require_whole("starts", starts, 1, CANDIDATES)
    require_finite("learning_rate", learning_rate, 0.0)


def _optimizer(steps: int, learning_rate: float) -> optax.GradientTransformation:
    """Returns Adam with a learning rate that falls to 0 as a cosine."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1)))


def descend(function: Callable, optimizer: optax.GradientTransformation, x: jax.Array, state) -> tuple[jax.Array, Any]:
    """Does a step of an optimizer that minimises a function [B, ...] -> [B] of each row by itself.

    Returns:
      What x and the optimizer's state become.
    """
    grads = jax.grad(lambda x: jnp.sum(function(x)))(x)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(x, updates), state


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


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _descend(module, features, steps, learning_rate, variables, latents, state, *rest):
    distance = functools.partial(_distance, module, features, variables)
    return descend(lambda x: distance(x, *rest), _optimizer(steps, learning_rate), latents, state)


_measure = jax.jit(_distance, static_argnums=(0, 1))
