"""Semantic directions of latents: closed-form factorisation (SeFa) and traversals along them.

In a net with styles all of this happens to w, elsewhere to z.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.core.errors import is_whole, require, require_finite, require_whole
from jaxgan.sampling.generator import Generator


def sefa(weight: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k directions that change `weight @ latent` the most (SeFa, Shen & Zhou 2021, eq. 4).

    Args:
      weight: [outputs, inputs].
      k: number of directions, 1 .. inputs.

    Returns:
      Unit vectors float32 [k, inputs], the first eigenvectors of weight^T weight, each with its largest number
      positive; and the change that a step of length 1 makes, the singular values, float32 [k], descending.
    """
    width = weight.shape[1]
    _check_count(k, width)
    weight = weight.astype(np.float64)
    values, vectors = np.linalg.eigh(weight.T @ weight)  # ascending
    values, vectors = values[::-1][:k], vectors.T[::-1][:k]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return (vectors * np.sign(largest)).astype(np.float32), np.sqrt(np.maximum(values, 0.0)).astype(np.float32)


def latent_weights(module, variables: dict, start: jax.Array, layers=None) -> np.ndarray:
    """Returns the weights [outputs, inputs] of the layers that latents enter, as the net uses them.

    These layers are affine, so that the weights are their Jacobian: scaled and spectrally normalised where the net does
    so, and zero for the parts of a latent that a layer does not see.

    Args:
      module: a generator whose `latent_layers`, a regular expression, names the layers.
      variables: its Flax variables.
      start: any latent [Z], or styles [L, W] of which `layers` move alike.
      layers: which styles move, int [n]; None for a latent.

    Raises:
      ConfigError: a generator that does not say which layers its latents enter.
    """
    names = getattr(module, "latent_layers", "")
    right = "its class has no latent_layers, the names of the affine layers that latents enter"
    require(bool(names), "generator", type(module).__module__, right)
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


def semantic_directions(generator: Generator, k: int, layers=None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first k semantic directions of a generator, [k, Z or W], and their strengths [k], as `sefa` does.

    Args:
      generator: one whose module has `latent_layers`.
      k: number of directions.
      layers: which styles are to move, such as range(4); None: all.

    Raises:
      ConfigError: a generator without `latent_layers`; k or layers that do not exist.

    Example:
      directions, strengths = semantic_directions(generator, 6)
      images = traverse(generator, directions, columns=7)  # uint8 [6 * 7, H, W, C]
    """
    start, *_ = _start(generator)
    _check_count(k, start.shape[-1])
    return sefa(latent_weights(generator.module, generator.variables, start[0], _moving(start, layers)), k)


def traverse(
    generator: Generator, directions: np.ndarray, columns: int, *, extent: float = 3.0, seed: int = 0, label=None,
    truncation: float | None = None, layers=None,
) -> np.ndarray:  # fmt: skip
    """Returns sample 0 moved by -extent .. extent along each direction, uint8 [k * columns, H, W, C], a row each.

    Args:
      generator: where the directions come from.
      directions: [k, Z or W].
      columns: images in a row.
      extent: length of the longest step, to both sides.
      seed: of the sample.
      label: a class; None: drawn.
      truncation: as in `Generator.sample`.
      layers: which styles move; None: all.
    """
    require_whole("columns", columns, 1)
    require_finite("extent", extent)
    start, *labels_and_keys, psi = _start(generator, seed, label, truncation)
    moving = _moving(start, layers)
    moves = jnp.linspace(-extent, extent, columns)[:, None] * jnp.asarray(directions)[:, None]  # [k, columns, Z or W]
    if moving is None:
        points = start + moves
    else:
        points = jnp.tile(start, (*moves.shape[:2], 1, 1)).at[:, :, moving].add(moves[:, :, None])
    points = points.reshape(-1, *start.shape[1:])
    return generator.generate(points, *(jnp.repeat(x, len(points), axis=0) for x in labels_and_keys), psi)


def _check_count(k, width: int) -> None:
    require(is_whole(k, 1, width), "k", k, f"latents of {width} numbers have 1 .. {width}")


def _start(generator: Generator, seed: int = 0, label=None, truncation: float | None = None):
    """Returns sample 0: its latent [1, Z] or styles [1, L, W], then its label, key and psi."""
    z, label, key, psi = generator.inputs(1, seed, label, truncation)
    return generator.styles(z, label, psi) if generator.has_styles else z, label, key, psi


def _moving(start: jax.Array, layers) -> np.ndarray | None:
    """Returns which of the styles [1, L, W] move, as an index; None for a latent [1, Z]."""
    if start.ndim == 2:
        given = None if layers is None else np.asarray(layers).tolist()
        require(given is None, "layers", given, "this generator has no styles")
        return None
    count = start.shape[1]
    chosen = np.arange(count) if layers is None else np.asarray(layers)
    good = chosen.size and np.issubdtype(chosen.dtype, np.integer) and 0 <= chosen.min() <= chosen.max() < count
    require(good, "layers", chosen.tolist(), f"styles are 0 .. {count - 1}")
    return chosen
