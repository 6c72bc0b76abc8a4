"""A trained generator, ready to sample: the pure functions, and the class `Generator` that is built on them."""

import dataclasses
import math
import reprlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxgan.core import rng
from jaxgan.core.errors import ConfigError, is_finite, require, require_finite, require_whole
from jaxgan.core.memory import require_memory
from jaxgan.core.parallel import first_replica
from jaxgan.core.rng import Stream
from jaxgan.core.shapes import height_width
from jaxgan.core.words import nearest
from jaxgan.data.pixels import to_uint8
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import TrainState
from jaxgan.sampling.interpolation import lerp, slerp
from jaxgan.sampling.statistics import batch_norm_moments, standing_statistics


def render(module, variables, z, labels, keys, psi=None):
    """Returns the generator's images, float32 [B, H, W, C], of which the range [-1, 1] is shown; pure.

    Args:
      module: the generator.
      variables: its Flax variables.
      z: latents [B, Z] or, for a module that has them, styles [B, L, W]. Labels and psi are in styles already.
      labels: int32 [B].
      keys: one key of the noise inside the net for each image, [B].
      psi: truncation, for a module with styles: their distance from the mean, as a fraction of what it was.
    """
    if z.ndim == 3:
        return module.apply(variables, z, keys, method="synthesis")
    truncated = {} if psi is None else {"psi": psi}
    return module.apply(variables, z, labels, train=False, keys=keys, **truncated)


def generate(module, variables, z, labels, keys, psi=None):
    """Returns the images of `render` as they are shown, uint8 [B, H, W, C]; pure."""
    return to_uint8(render(module, variables, z, labels, keys, psi))


def map_styles(module, variables, z, labels, psi):
    """Returns the styles [B, L, W] of latents [B, Z] and labels [B]; psi as in `render`; pure."""
    return module.apply(variables, z, labels, train=False, psi=psi, method="mapping")


def draw_latents(seed, z_dim: int, num_labels: int, index, bound=None):
    """Returns what samples `index` [B] of a seed are made from; pure.

    Args:
      seed: int, may be traced.
      z_dim: numbers in a latent.
      num_labels: labels are uniform integers below it; 0: all are 0.
      index: int32 [B]; each row below depends on (seed, its index) only.
      bound: latents are normal given that each of their numbers is within +-bound; None: standard normal.

    Returns:
      Latents float32 [B, z_dim], labels int32 [B] and noise keys [B].
    """
    key = jax.random.key(seed)
    z, label, noise = (
        rng.example_keys(rng.stream_key(key, s), index)
        for s in (Stream.SAMPLE_Z, Stream.SAMPLE_LABEL, Stream.SAMPLE_NOISE)
    )
    z = rng.normal(z, (z_dim,)) if bound is None else rng.truncated_normal(z, (z_dim,), bound)
    return z, rng.randint(label, max(num_labels, 1)), noise


_generate = jax.jit(generate, static_argnums=0)
_map_styles = jax.jit(map_styles, static_argnums=0)
_draw_latents = jax.jit(draw_latents, static_argnums=(1, 2))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Generator:
    """A generator with its variables, ready to sample on the device that holds them.

    Images are made `batch_size` at a time, the last batch padded, so that image i of a seed has the same bits however
    many are asked for.

    Args:
      module: a Flax module as those of `jaxgan.MODELS`.
      variables: its variables, usually those of the EMA generator.
      z_dim: numbers in a latent.
      step: the training step that the variables are of.
      batch_size: images in one call of the net; as many as the memory holds.
      config: the ConfigDict of the run, for whoever wants to know; nothing here reads it.
      data: the DataSpec of its images, which has the names of the classes.

    Example:
      generator = jaxgan.load("runs/cifar")
      images = generator.sample(64, seed=0)  # uint8 [64, 32, 32, 3]
    """

    module: nn.Module
    variables: dict
    _: dataclasses.KW_ONLY
    z_dim: int
    step: int = 0
    batch_size: int = 64
    config: Any = None
    data: Any = None

    def __post_init__(self):
        require_whole("z_dim", self.z_dim, 1)
        require_whole("batch_size", self.batch_size, 1)

    @classmethod
    def from_state(cls, recipe: Recipe, state: TrainState, **fields: Any) -> "Generator":
        """Returns the EMA generator of a training state, on this process's first device.

        Its variables are copied, so that it outlives the next step, which donates the state's.

        Args:
          recipe: the `Recipe` that is trained.
          state: its `TrainState`, on one device or replicated.
          fields: `batch_size`, `config` or `data`, see the class.
        """
        given = type(recipe).__name__, type(state).__name__
        good = isinstance(recipe, Recipe) and isinstance(state, TrainState)
        require(good, "recipe, state", given, "give a Recipe and a TrainState, in this order")
        variables = jax.tree.map(jnp.copy, first_replica(state.ema))
        return cls(recipe.generator, variables, z_dim=recipe.z_dim, step=int(state.step), **fields)

    def __repr__(self):
        architecture = type(self.module).__module__.rpartition(".")[2]
        return f"Generator({architecture}, {'x'.join(map(str, self.image_shape))}, step {self.step})"

    @property
    def num_classes(self) -> int:
        """0: unconditional."""
        return self.module.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class, or () where they have none."""
        return self.data.class_names if self.data else ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (*height_width(self.module.image_size), self.module.image_channels)

    @property
    def has_styles(self) -> bool:
        """Whether the net has a mapping network, from latents to styles (w)."""
        return hasattr(self.module, "mapping")

    @property
    def has_batch_norm(self) -> bool:
        return bool(batch_norm_moments(self.variables))

    def with_standing_statistics(self, batches: int = 16, batch_size: int = 64, seed: int = 0) -> "Generator":
        """Returns this generator with the statistics of batch norm measured anew (Brock et al. 2019, section 3.1).

        They are measured on `batches` batches of the samples -1, -2, ... of the seed, none of which is ever shown.

        Raises:
          ConfigError: there is no batch norm, or no batch of at least one sample; the seed as in `sample`.
        """
        require(self.has_batch_norm, "generator", self, "has no batch norm to measure standing statistics of")
        require_whole("batches", batches, 1)
        require_whole("batch_size", batch_size, 1)
        _check_seed(seed)
        index = -1 - np.arange(batches * batch_size, dtype=np.int32).reshape(batches, batch_size)
        samples = (_draw_latents(seed, self.z_dim, self.num_classes, i) for i in index)
        return dataclasses.replace(self, variables=standing_statistics(self.module, self.variables, samples))

    def sample(
        self, n: int, seed: int = 0, labels: ArrayLike | None = None, truncation: float | None = None
    ) -> np.ndarray:
        """Returns n images, uint8 [n, H, W, C]; image i depends on (seed, i) and its label only.

        Args:
          n: number of images, at least 1.
          seed: 0 .. 2^31 - 1.
          labels: for a conditional generator the class of all images, or int [n]; None: uniform draws by (seed, i).
          truncation: trades variety for typical images. Where the net has styles it is psi: styles move towards their
            mean, 1 not at all and 0 all the way (Karras et al. 2019, appendix B). Elsewhere it is the bound of each
            number of a latent, which is drawn anew beyond it (Brock et al. 2019, section 3.1): the larger the less.

        Raises:
          ConfigError: labels for an unconditional generator, out of range or of the wrong number; n or a seed that is
            none; a truncation that is not finite and above 0 (psi: 0 or above).
        """
        return self.generate(*self.inputs(n, seed, labels, truncation))

    def inputs(
        self, n: int, seed: int = 0, labels: ArrayLike | None = None, truncation: float | None = None
    ) -> tuple[jax.Array, ArrayLike, jax.Array, float | None]:
        """Returns what `generate` makes the images of `sample` from: latents, labels, noise keys and psi."""
        psi, bound = self._truncation(truncation)
        z, drawn, keys = self.latents(n, seed, bound)
        return z, drawn if labels is None else self._labels(labels, n), keys, psi

    def latents(self, n: int, seed: int = 0, bound: float | None = None):
        """Draws what samples 0 .. n - 1 start from: latents float32 [n, z_dim], labels int32 [n], noise keys [n].

        With a `bound`, all coordinates of a latent are within it.
        """
        return self._draw(n, seed, self.num_classes, bound)

    def labels(self, n: int, seed: int = 0, among: ArrayLike | None = None) -> np.ndarray:
        """Draws the labels of samples 0 .. n - 1, int32 [n].

        `among` [m], such as the labels of a data set, is what they are drawn from; None: uniformly from all classes.
        An unconditional generator has zeros.
        """
        require_whole("n", n, 1)
        if not self.num_classes:
            return np.zeros(n, np.int32)
        choices = np.arange(self.num_classes) if among is None else np.asarray(among)
        return choices[np.asarray(self._draw(n, seed, len(choices))[1])].astype(np.int32)

    def check_labels(self, labels: ArrayLike) -> np.ndarray:
        """Returns one class, or many, as an array int32; a ConfigError where this generator does not have them.

        Text is the name of a class or, if no class is called so, its number.
        """
        last = self.num_classes - 1
        right = f"give integers{' or names' * bool(self.class_names)}, one or a list of them; classes are 0 .. {last}"
        if not self.num_classes:
            raise ConfigError(f"labels={_shown(labels)}: this generator is unconditional")
        try:
            array = np.asarray(labels)
        except ValueError as error:  # rows of different lengths
            raise ConfigError(f"labels={_shown(labels)}: {right}") from error
        if array.dtype.kind == "U":
            array = np.array([self._class_number(name, labels, right) for name in array.ravel()]).reshape(array.shape)
        good = array.size and np.issubdtype(array.dtype, np.integer) and 0 <= array.min() <= array.max() <= last
        if not good:
            raise ConfigError(f"labels={_shown(labels)}: {right}")
        return array.astype(np.int32)

    def _class_number(self, name: str, labels, right: str) -> int:
        if name in self.class_names:
            return self.class_names.index(name)
        if name.strip().isdecimal():
            return int(name)
        missing = f"there is no class {str(name)!r}{nearest(name, self.class_names)}; " * bool(self.class_names)
        raise ConfigError(f"labels={_shown(labels)}: {missing}{right}")

    def class_columns(self, rows: int, columns: int) -> np.ndarray:
        """Returns the labels of a grid with a class in each column, int [rows * columns]; they repeat if need be."""
        require(self.num_classes > 0, "generator", self, "is unconditional and has no class for a column")
        require_whole("rows", rows, 1)
        require_whole("columns", columns, 1)
        return np.tile(np.arange(columns) % self.num_classes, rows)

    def column_titles(self, columns: int) -> tuple[str, ...]:
        """Returns what stands above the columns of such a grid: the names of the classes, or () if there are none."""
        names = self.class_names
        return tuple(names[i % len(names)] for i in range(columns)) if names else ()

    def styles(self, z: ArrayLike, labels: ArrayLike, psi: float | None = None) -> jax.Array:
        """Returns the styles [n, L, W] of latents [n, z_dim] and labels [n]; `generate` takes them in place of z."""
        require(self.has_styles, "generator", self, "has no styles (w)")
        return _map_styles(self.module, self.variables, z, labels, 1.0 if psi is None else psi)

    def generate(self, z: ArrayLike, labels: ArrayLike, keys: jax.Array, psi: float | None = None) -> np.ndarray:
        """Returns the images, uint8 [n, H, W, C], of latents [n, z_dim] or styles, labels [n] and noise keys [n]."""
        n = len(z)
        batches = [
            np.asarray(_generate(self.module, self.variables, z[i], labels[i], keys[i], psi))
            for i in np.minimum(self._blocks(n), n - 1)
        ]
        return np.concatenate(batches)[:n]

    def interpolate(
        self,
        rows: int,
        columns: int,
        seed: int = 0,
        labels: ArrayLike | None = None,
        truncation: float | None = None,
        space: str = "z",
    ) -> np.ndarray:
        """Returns walks from sample 2i to sample 2i + 1, uint8 [rows * columns, H, W, C], row by row.

        A row keeps one label and one noise.

        Args:
          rows, columns: number of walks, and of images in each.
          seed, truncation: as in `sample`.
          labels: one class, or int [rows]; None: that of the first sample of each row.
          space: "z", along great circles of latents, or "w", along straight lines of styles, if the net has them.

        Raises:
          ConfigError: another space, or "w" without styles; labels and truncation as in `sample`.
        """
        require(space in ("z", "w"), "space", space, "choose z or w")
        require(space == "z" or self.has_styles, "space", space, "this generator has no styles; choose z")
        require_whole("rows", rows, 1)
        require_whole("columns", columns, 1)
        psi, bound = self._truncation(truncation)
        ends, drawn, keys = self.latents(2 * rows, seed, bound)
        labels = drawn[::2] if labels is None else self._labels(labels, rows)
        if space == "w":
            ends = self.styles(ends, np.repeat(labels, 2), psi)
        t = jnp.linspace(0.0, 1.0, columns).reshape(-1, *[1] * (ends.ndim - 1))
        walks = {"z": slerp, "w": lerp}[space](ends[::2, None], ends[1::2, None], t)  # [rows, columns, ...]
        repeat = np.repeat(np.arange(rows), columns)
        return self.generate(walks.reshape(-1, *ends.shape[1:]), labels[repeat], keys[::2][repeat], psi)

    def _draw(self, n: int, seed: int, num_labels: int, bound: float | None = None):
        require_whole("n", n, 1, 2**31 - 1)  # samples are counted in 32 bits
        _check_seed(seed)
        require_memory("n", n, n * (4 * self.z_dim + math.prod(self.image_shape)), "the latents and images")
        z, labels, keys = zip(*(_draw_latents(seed, self.z_dim, num_labels, i, bound) for i in self._blocks(n)))
        data = np.concatenate([jax.random.key_data(k) for k in keys])[:n]  # on the host: no program depends on n
        return np.concatenate(z)[:n], np.concatenate(labels)[:n], jax.random.wrap_key_data(data)

    def _blocks(self, n: int) -> np.ndarray:
        """Returns the indices of as many whole batches as n images take, int32 [batches, batch_size]."""
        return np.arange(-(-n // self.batch_size) * self.batch_size, dtype=np.int32).reshape(-1, self.batch_size)

    def _truncation(self, truncation: float | None) -> tuple[float | None, float | None]:
        """Returns the psi of styles and the bound of latents; at least one of them is None."""
        if truncation is None:
            return None, None
        if self.has_styles:
            require_finite("truncation", truncation, 0.0)
            return truncation, None
        right = "the bound must be a finite number above 0"
        require(is_finite(truncation, 0.0) and truncation > 0, "truncation", truncation, right)
        return None, truncation

    def _labels(self, labels, n: int) -> np.ndarray:
        array = self.check_labels(labels)
        if array.shape not in ((), (n,)):
            raise ConfigError(f"labels={_shown(labels)}: give one, or {n}")
        return np.broadcast_to(array, (n,))


def _shown(labels) -> str:
    """Returns labels as an error shows them: the first ones, if there are many."""
    return reprlib.repr(labels.tolist() if hasattr(labels, "tolist") else labels)


def _check_seed(seed) -> None:
    require_whole("seed", seed, 0, 2**31 - 1)
