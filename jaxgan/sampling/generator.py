"""A trained generator, ready to sample: `jaxgan.load("runs/cifar").sample(64)`."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from jaxgan.core import rng
from jaxgan.core.rng import Stream
from jaxgan.gan import ema
from jaxgan.gan.state import make_generator
from jaxgan.settings import from_dict, images_per_step


def render(module, variables, z, labels, keys, psi=None):
    """Latents [B, Z], labels [B] and noise keys [B] to images, float32 [B, H, W, C], those in [-1, 1] are shown; pure.

    `psi` is for modules that know it: how far styles are from their mean, of how far they were. Such modules also take
    styles [B, L, W] instead of latents; labels and psi are in them already.
    """
    if z.ndim == 3:
        return module.apply(variables, z, keys, method="synthesis")
    truncated = {} if psi is None else {"psi": psi}
    return module.apply(variables, z, labels, train=False, keys=keys, **truncated)


def decode(module, variables, z, labels, keys, psi=None):
    """What `render` makes of them, as it is shown: uint8 [B, H, W, C]; pure."""
    images = render(module, variables, z, labels, keys, psi)
    return jnp.round((jnp.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


def draw(seed, z_dim: int, num_labels: int, index, bound=None):
    """Latents [B, Z], uniform integers below `num_labels` [B] and noise keys [B] of samples `index` [B]; pure.

    Latents are standard normal; with a `bound`, given that each number is within it.
    """
    key = jax.random.key(seed)
    z, label, noise = (
        rng.example_keys(rng.stream_key(key, s), index)
        for s in (Stream.SAMPLE_Z, Stream.SAMPLE_LABEL, Stream.SAMPLE_NOISE)
    )
    z = rng.normal(z, (z_dim,)) if bound is None else rng.truncated_normal(z, (z_dim,), bound)
    return z, rng.randint(label, max(num_labels, 1)), noise


def line(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    """Points from `start` (t = 0) to `end` (t = 1); the shapes broadcast."""
    return start + t * (end - start)


def great_circle(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    """Spherical interpolation over the last axis (White 2016): a chord of Gaussian latents would leave their shell."""
    norms = jnp.linalg.norm(start, axis=-1, keepdims=True) * jnp.linalg.norm(end, axis=-1, keepdims=True)
    angle = jnp.arccos(jnp.clip(jnp.sum(start * end, axis=-1, keepdims=True) / norms, -1.0, 1.0))
    return (jnp.sin((1.0 - t) * angle) * start + jnp.sin(t * angle) * end) / jnp.sin(angle)


def running_moments(variables: dict) -> dict[tuple, jax.Array]:
    """Running mean and variance of each batch norm by their paths in "batch_stats", where spectral norm has its own."""
    stats = traverse_util.flatten_dict(variables.get("batch_stats", {}))
    return {path: value for path, value in stats.items() if path[-1] in ("mean", "var")}


def batch_moments(module, variables, z, labels, keys) -> dict[tuple, jax.Array]:
    """Mean and variance of this one batch at each batch norm, as `running_moments` has them; pure."""

    def update(moments):  # to m * moments + (1 - m) * those of the batch
        stats = traverse_util.unflatten_dict(traverse_util.flatten_dict(variables["batch_stats"]) | moments)
        collections = {**variables, "batch_stats": stats}
        return running_moments(module.apply(collections, z, labels, train=True, keys=keys, mutable="batch_stats")[1])

    zeros = jax.tree.map(jnp.zeros_like, running_moments(variables))
    weighted, m = jax.jvp(update, (zeros,), (jax.tree.map(jnp.ones_like, zeros),))
    return jax.tree.map(lambda new, m: new / (1.0 - m), weighted, m)


def map_styles(module, variables, z, labels, psi):
    """Latents [B, Z] and labels [B] to styles [B, L, W]; psi as in `render`; pure."""
    return module.apply(variables, z, labels, train=False, psi=psi, method="mapping")


_decode = jax.jit(decode, static_argnums=0)
_map_styles = jax.jit(map_styles, static_argnums=0)
_batch_moments = jax.jit(batch_moments, static_argnums=0)
_draw = jax.jit(draw, static_argnums=(1, 2))


class Generator:
    """An averaged generator, ready to sample on one device.

    Images are made in batches of `CHUNK`, the last one padded, so that image i of a seed has the same bits however
    many are asked for.
    """

    CHUNK = 64

    def __init__(self, config, variables, step: int):
        """From a resolved config and the EMA variables of a state; most users call `jaxgan.load`."""
        self.config = config
        self.variables = variables
        self.step = step
        self.num_classes = config.data.num_classes if config.model.conditional else 0
        self.module = make_generator(config)

    def __repr__(self):
        size, channels = self.config.data.image_size, self.config.data.channels
        return f"Generator({self.config.model.name}, {size}x{size}x{channels}, step {self.step})"

    @property
    def has_styles(self) -> bool:
        return "w_avg" in self.variables

    @property
    def has_batch_norm(self) -> bool:
        return bool(running_moments(self.variables))

    def with_standing_statistics(self, batches: int = 16, batch_size: int = 64, seed: int = 0) -> "Generator":
        """This generator with batch norm's statistics measured anew (Brock et al. 2019, section 3.1).

        They become the plain means of the means and of the variances of so many batches, of samples -1, -2, ... of the
        seed: none that is ever shown. All else, spectral norm's vectors too, stays.

        Raises:
          ValueError: there is no batch norm, or no batch of at least one latent.
        """
        if not self.has_batch_norm:
            raise ValueError(f"standing statistics: {self.config.model.name} has no batch norm")
        if min(batches, batch_size) < 1:
            raise ValueError(f"standing statistics of {batches} batches of {batch_size}: give at least 1 of 1")
        index = -1 - jnp.arange(batches * batch_size).reshape(batches, batch_size)
        moments = [
            _batch_moments(self.module, self.variables, *_draw(seed, self.config.model.z_dim, self.num_classes, i))
            for i in index
        ]
        standing = jax.tree.map(lambda *x: sum(x) / batches, *moments)
        stats = traverse_util.flatten_dict(self.variables["batch_stats"]) | standing
        variables = {**self.variables, "batch_stats": traverse_util.unflatten_dict(stats)}
        return Generator(self.config, variables, self.step)

    def sample(self, n: int, seed: int = 0, labels=None, truncation: float | None = None) -> np.ndarray:
        """n images, uint8 [n, H, W, C]; image i depends on (seed, i) and its label only.

        Args:
          n: how many.
          seed: 0 .. 2^31 - 1.
          labels: class of all, or int [n], for a conditional generator; drawn uniformly by (seed, i) if not given.
          truncation: typical images instead of varied ones. Where the net has styles, psi: they move towards their
            mean, 1 not at all and 0 all the way (Karras et al. 2019, section B). Elsewhere the bound of each number of
            a latent, which is drawn anew beyond it, so the larger the less (Brock et al. 2019, section 3.1).

        Raises:
          ValueError: labels for an unconditional generator, out of range or of the wrong number; a truncation that is
            no finite number above 0 (psi: 0 or above).
        """
        return self.decode(*self.inputs(n, seed, labels, truncation))

    def inputs(self, n: int, seed: int = 0, labels=None, truncation: float | None = None):
        """What `decode` makes the images of `sample` from: latents [n, z_dim], labels [n], noise keys [n] and psi."""
        psi, bound = self._truncation(truncation)
        z, drawn, keys = self.latents(n, seed, bound)
        return z, drawn if labels is None else self._labels(labels, n), keys, psi

    def latents(self, n: int, seed: int = 0, bound: float | None = None):
        """What `sample` starts from: latents float32 [n, z_dim], labels int32 [n], noise keys [n].

        With a `bound`, all numbers of a latent are within it.
        """
        index = jnp.arange(-(-n // self.CHUNK) * self.CHUNK)
        return jax.tree.map(lambda x: x[:n], _draw(seed, self.config.model.z_dim, self.num_classes, index, bound))

    def labels(self, n: int, seed: int = 0, among=None) -> np.ndarray:
        """Labels of samples 0 .. n - 1, int32 [n]: drawn from those of a data set, `among` [m], or uniformly.

        Zeros for an unconditional generator.
        """
        if not self.num_classes:
            return np.zeros(n, np.int32)
        choices = np.arange(self.num_classes) if among is None else np.asarray(among)
        index = np.arange(-(-n // self.CHUNK) * self.CHUNK)
        drawn = np.asarray(_draw(seed, self.config.model.z_dim, len(choices), index)[1])
        return choices[drawn[:n]].astype(np.int32)

    def class_columns(self, rows: int, columns: int) -> np.ndarray:
        """Labels of a grid with a class in each column, int [rows * columns]: 0, 1, ..; after the last one 0 again."""
        if not self.num_classes:
            raise ValueError("a column a class: this generator is unconditional")
        return np.tile(np.arange(columns) % self.num_classes, rows)

    def styles(self, z, labels, psi: float | None = None) -> jax.Array:
        """Latents [n, z_dim] and labels [n] to styles [n, L, W], which `decode` takes too; psi as in `sample`."""
        if not self.has_styles:
            raise ValueError(f"{self.config.model.name} has no styles (w)")
        return _map_styles(self.module, self.variables, z, labels, 1.0 if psi is None else psi)

    def decode(self, z, labels, keys, psi: float | None = None) -> np.ndarray:
        """Latents [n, z_dim] or styles, labels [n] and keys [n] to images, uint8 [n, H, W, C]; psi as in `sample`."""
        n = len(z)
        take = np.minimum(np.arange(-(-n // self.CHUNK) * self.CHUNK), n - 1)
        chunks = [
            np.asarray(_decode(self.module, self.variables, z[i], labels[i], keys[i], psi))
            for i in take.reshape(-1, self.CHUNK)
        ]
        return np.concatenate(chunks)[:n]

    def interpolate(
        self, rows: int, columns: int, seed: int = 0, labels=None, truncation: float | None = None, space: str = "z"
    ) -> np.ndarray:
        """Walks from sample 2i to sample 2i + 1, uint8 [rows * columns, H, W, C], row by row.

        Along a great circle of latents, or with `space` "w" along a line of styles, if the net has them. A row keeps
        one label (of its first sample, or from `labels`: one, or int [rows]) and one noise. `truncation` is as in
        `sample`.
        """
        psi, bound = self._truncation(truncation)
        ends, drawn, keys = self.latents(2 * rows, seed, bound)
        labels = drawn[::2] if labels is None else self._labels(labels, rows)
        between = great_circle
        if space == "w":
            ends, between = self.styles(ends, np.repeat(labels, 2), psi), line
        elif space != "z":
            raise ValueError(f"space={space!r}: give z or w")
        t = jnp.linspace(0.0, 1.0, columns).reshape(-1, *[1] * (ends.ndim - 1))
        walk = between(ends[::2, None], ends[1::2, None], t)  # [rows, columns, ...]
        repeat = np.repeat(np.arange(rows), columns)
        return self.decode(walk.reshape(-1, *ends.shape[1:]), labels[repeat], keys[::2][repeat], psi)

    def _truncation(self, truncation: float | None) -> tuple[float | None, float | None]:
        """psi of styles and bound of latents; one of them at most."""
        if truncation is None:
            return None, None
        styles = self.has_styles
        if not (0 <= truncation < math.inf and (styles or truncation)):
            raise ValueError(f"truncation={truncation}: must be finite and {'0 or above' if styles else 'above 0'}")
        return (truncation, None) if styles else (None, truncation)

    def _labels(self, labels, n: int) -> jax.Array:
        if not self.num_classes:
            raise ValueError("labels given, but this generator is unconditional")
        labels = np.asarray(labels, np.int32)
        if labels.ndim and labels.shape != (n,):
            raise ValueError(f"labels of shape {labels.shape}: give one, or {n}")
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(f"labels {labels.min()} .. {labels.max()}: classes are 0 .. {self.num_classes - 1}")
        return jnp.broadcast_to(labels, (n,))


def load(path, step: int | None = None, sigma_rel: float | None = None) -> Generator:
    """The averaged generator of a workdir, a checkpoint directory or one checkpoint, on one device of any kind.

    Args:
      path: of the run or the checkpoint; gs:// works where the extra `gcs` is installed.
      step: which checkpoint of a run; the newest undamaged one if not given.
      sigma_rel: give this width to the average, after the fact, from those that the run's checkpoints hold up to
        `step` (EDM2, section 3.2). The more of them (config.checkpoint.keep_every_kimg), the nearer.

    Raises:
      ValueError: `sigma_rel` for a run whose average is no power function, or one that no power function has.
      CheckpointError: there is none, not this one, or all are damaged.
    """
    from jaxgan.core import checkpoint

    settings = epath.Path(path) / "config.json"
    if settings.exists():  # a workdir may keep its checkpoints elsewhere
        path = json.loads(settings.read_text())["checkpoint"]["dir"] or path
    saved, variables, step = checkpoint.restore_generator(path, step)
    config = from_dict(saved)
    if sigma_rel is not None:
        if not config.ema.sigma_rel:
            raise ValueError(f"sigma_rel={sigma_rel}: the average of this run is no power function")
        widths = [config.ema.sigma_rel, *config.ema.posthoc]
        steps = [s for s in checkpoint.find(path)[1] if s <= step]
        images = np.repeat(steps, len(widths)) * images_per_step(config)
        weights = ema.posthoc_weights(images, np.tile(widths, len(steps)), images[-1], sigma_rel)
        variables = ema.combine(checkpoint.restore_averages(path, steps), weights)
        config.ema.sigma_rel = sigma_rel
    return Generator(config, variables, step)
