"""What latents can do beside being drawn: semantic directions, and the latents of a given image.

In a net with styles all of this happens to w, elsewhere to z.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxgan.evaluation.networks import cifar
from jaxgan.sampling.generator import Generator, render

# By architecture, the names of the layers that z enters, or w where the net has styles; they are affine.
ENTRANCES = {
    "mlp": "dense_0",
    "dcgan": "dense",
    "sngan": "dense",
    "sagan": "dense",
    "biggan": "dense|(gain|bias)_.*",  # a chunk of z each
    "r3gan": "dense",
    "stylegan2": "style",
}


def sefa(weight: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Semantic directions in closed form (Shen & Zhou 2021, eq. 4): those that change `weight @ latent` the most.

    Args:
      weight: [outputs, inputs].
      k: how many, 1 .. inputs.

    Returns:
      Unit vectors, the first eigenvectors of weight^T weight, float32 [k, inputs], the largest number of each positive;
      and the change that a step of length 1 makes, the singular values, float32 [k], descending.
    """
    if not 1 <= k <= weight.shape[1]:
        raise ValueError(f"{k} directions: latents of {weight.shape[1]} numbers have 1 .. {weight.shape[1]}")
    weight = weight.astype(np.float64)
    values, vectors = np.linalg.eigh(weight.T @ weight)  # ascending
    values, vectors = values[::-1][:k], vectors.T[::-1][:k]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return (vectors * np.sign(largest)).astype(np.float32), np.sqrt(np.maximum(values, 0.0)).astype(np.float32)


def entrance(module: nn.Module, variables: dict, names: str, start: jax.Array, layers=None) -> np.ndarray:
    """The weights [outputs, inputs] that latents meet first, as they are in use: scaled, spectrally normalised.

    Args:
      names: of the layers, a regular expression; the weights are the Jacobian of all of them.
      start: any latent [Z], or styles [L, W] of which `layers` move alike.
    """
    module = module.clone(dtype=jnp.float32)
    capture = dict(
        mutable=["intermediates"],
        capture_intermediates=lambda layer, method: method == "__call__" and re.fullmatch(names, layer.name or ""),
    )

    def outputs(step):
        if layers is None:
            _, state = module.apply(variables, (start + step)[None], jnp.zeros(1, int), train=False, **capture)
        else:
            _, state = module.apply(variables, start.at[layers].add(step)[None], method="synthesis", **capture)
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(state)])

    return np.asarray(jax.jit(jax.jacfwd(outputs))(jnp.zeros(start.shape[-1])))


def directions(generator: Generator, k: int, layers=None) -> tuple[np.ndarray, np.ndarray]:
    """The first k semantic directions of a generator, [k, Z or W], and their strengths [k], see `sefa`.

    `layers`: which styles are to move, such as range(4); all if None.

    Raises:
      ValueError: an architecture that is not in `ENTRANCES`; k or layers that there are not.
    """
    name = generator.config.model.name
    if name not in ENTRANCES:
        raise ValueError(f"semantic directions of {name}: known for {', '.join(ENTRANCES)}")
    start, *_ = _start(generator)
    weight = entrance(generator.module, generator.variables, ENTRANCES[name], start[0], _moving(start, layers))
    return sefa(weight, k)


def walk(
    generator: Generator, along: np.ndarray, columns: int, *, extent: float = 3.0, seed: int = 0, label=None,
    truncation: float | None = None, layers=None,
) -> np.ndarray:  # fmt: skip
    """Sample 0 moved by -extent .. extent along each direction, uint8 [k * columns, H, W, C], a row each.

    Args:
      along: directions [k, Z or W].
      label: a class; drawn if None.
      truncation: as in `Generator.sample`.
      layers: which styles move; all if None.
    """
    start, *rest = _start(generator, seed, label, truncation)
    moving = _moving(start, layers)
    moves = jnp.linspace(-extent, extent, columns)[:, None] * jnp.asarray(along)[:, None]  # [k, columns, Z or W]
    if moving is None:
        points = start + moves
    else:
        points = jnp.tile(start, (*moves.shape[:2], 1, 1)).at[:, :, moving].add(moves[:, :, None])
    points = points.reshape(-1, *start.shape[1:])
    *rest, psi = rest
    return generator.decode(points, *(jnp.repeat(x, len(points), axis=0) for x in rest), psi)


def _start(generator: Generator, seed: int = 0, label=None, truncation: float | None = None):
    """Sample 0: its latent [1, Z] or styles [1, L, W], then its label, key and psi."""
    z, *rest = generator.inputs(1, seed, label, truncation)
    return (generator.styles(z, rest[0], rest[2]) if generator.has_styles else z), *rest


def _moving(start: jax.Array, layers) -> np.ndarray | None:
    """Which of the styles [1, L, W] move, as an index; None for a latent [1, Z]."""
    if start.ndim == 2:
        if layers is not None:
            raise ValueError("layers: this generator has no styles")
        return None
    count = start.shape[1]
    chosen = np.arange(count) if layers is None else np.asarray(layers, int)
    if not (chosen.size and 0 <= chosen.min() <= chosen.max() < count):
        raise ValueError(f"layers={chosen.tolist()}: styles are 0 .. {count - 1}")
    return chosen


class Projection(NamedTuple):
    """What was found for each of n images; `Generator.decode` makes `images` from the first three."""

    latents: np.ndarray  # float32 [n, Z], or styles [n, L, W], alike in all layers
    labels: np.ndarray  # int32 [n]
    keys: jax.Array  # of the noise, [n]
    images: np.ndarray  # uint8 [n, H, W, C]
    distances: np.ndarray  # to the given images, float32 [n], see `image_distance`


def project(
    generator: Generator, images: np.ndarray, steps: int = 500, *, seed: int = 0, labels=None,
    starts: int = 4, learning_rate: float = 0.1,
) -> Projection:  # fmt: skip
    """The latents whose images are nearest to these, by gradient descent; after Karras et al. 2020, section 5.

    From each of the `starts` nearest of the first `Generator.CHUNK` samples of the seed (Bora et al. 2017 restart too),
    Adam goes down `image_distance` in z, or in w where the net has styles, at a learning rate that falls as a cosine;
    the best is kept. The distance is that of pixels, and of colour images of 32 pixels also that of the features of the
    CIFAR-10 classifier in the package. Noise stays that of the sample.

    Args:
      images: uint8 [n, H, W, C], as the generator makes them.
      labels: class of all, or int [n]; that of the sample if None.

    Raises:
      ValueError: images of another shape or type; labels as in `Generator.sample`; other than 1 .. CHUNK starts.
    """
    size, channels = generator.config.data.image_size, generator.config.data.channels
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, channels):
        raise ValueError(f"images are {images.dtype} {images.shape}; give uint8 [n, {size}, {size}, {channels}]")
    if not 1 <= starts <= generator.CHUNK:
        raise ValueError(f"starts={starts}: give 1 .. {generator.CHUNK}")
    extractor = cifar.load() if images.shape[1:] == (cifar.SIZE, cifar.SIZE, 3) else None
    variables = {"net": generator.variables, "features": extractor and extractor.variables}
    distance = functools.partial(_distance, generator.module, extractor and extractor.apply)

    def nearest(target, label):
        z, label, keys, _ = generator.inputs(generator.CHUNK, seed, label)
        start = generator.styles(z, label) if generator.has_styles else z
        closest = jnp.argsort(measure(variables, start, label, keys, target))[:starts]
        return start[closest], label[closest], keys[closest]

    def find(variables, start, *rest):
        found = descend(lambda x: distance(variables, x, *rest), start, steps, learning_rate)
        return found, distance(variables, found, *rest)

    measure, find = jax.jit(distance), jax.jit(find)
    targets = images / np.float32(127.5) - 1.0
    given = [None] * len(images) if labels is None else np.broadcast_to(labels, len(images))
    best = []
    for target, label in zip(targets, given, strict=True):
        start, label, keys = nearest(target, label)
        found, distances = find(variables, start, label, keys, target)
        i = jnp.argmin(distances)
        best.append((found[i], label[i], keys[i], distances[i]))
    latents, labels, keys, distances = (jnp.stack(x) for x in zip(*best, strict=True))
    made = generator.decode(latents, labels, keys)
    return Projection(np.asarray(latents), np.asarray(labels), keys, made, np.asarray(distances))


def descend(distance: Callable, start: jax.Array, steps: int, learning_rate: float) -> jax.Array:
    """Latents [B, ...] from `start` on by Adam down `distance`, latents -> [B]; the learning rate falls as a cosine."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1)))

    def step(carry, _):
        latents, state = carry
        grads = jax.grad(lambda x: jnp.sum(distance(x)))(latents)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(latents, updates), state), None

    return lax.scan(step, (start, optimizer.init(start)), length=steps)[0][0]


def image_distance(images: jax.Array, targets: jax.Array, features: Callable | None = None) -> jax.Array:
    """Mean squared difference of pixels plus, with `features`, squared difference over squared norm of these, [B].

    Args:
      images: [B, H, W, C] in [-1, 1].
      targets: the same, or one image.
      features: images [B, H, W, C] in [-1, 1] to [B, n].
    """
    pixels = jnp.mean(jnp.square(images - targets), axis=(-3, -2, -1))
    if features is None:
        return pixels
    made, wanted = features(images), features(jnp.broadcast_to(targets, images.shape))
    return pixels + jnp.sum(jnp.square(made - wanted), axis=1) / jnp.sum(jnp.square(wanted), axis=1)


def _distance(module, apply, variables, latents, labels, keys, targets) -> jax.Array:
    """Of the images of latents [B, Z], or of the means of styles [B, L, W] over their layers; [B]."""
    if latents.ndim == 3:
        latents = jnp.broadcast_to(jnp.mean(latents, axis=1, keepdims=True), latents.shape)  # one w, as published
    images = jnp.clip(render(module, variables["net"], latents, labels, keys), -1.0, 1.0)  # as they are shown
    features = apply and (lambda x: apply(variables["features"], (x + 1.0) * 127.5)["pool"])
    return image_distance(images, targets, features)
