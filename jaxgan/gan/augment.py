"""Differentiable augmentation of what D sees: (keys [B], images [B, H, W, C] in [-1, 1], p) to images.

One typed key an example; with the same key and p an example becomes the same alone, in any batch, on any device. So
reals and fakes that are to share their draws (as R3GAN2's pairs do) are simply given the same keys.

p in [0, 1] may be traced. An example for which nothing was drawn keeps its pixels bit for bit, so p = 0 is the
identity. The result is linear in the pixels up to a constant (but for the holes of "r3gan2"), and differentiable any
number of times in them (not in p): penalties of gradients go through it, as they should. Results may leave [-1, 1].

To add one, write such a function and a line in `AUGMENTATIONS`, or put it into a recipe as `Augmentation(fn=...)`.
"""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgan.core import rng
from jaxgan.core.errors import function_name, require, require_finite, require_function
from jaxgan.gan.ada import PIPES, ada, where_fired
from jaxgan.gan.schedules import Schedule, as_schedule, require_range


def _brightness(key, image):
    return image + jax.random.uniform(key, minval=-0.5, maxval=0.5)


def _saturation(key, image):
    grey = jnp.mean(image, 2, keepdims=True)
    return grey + (image - grey) * jax.random.uniform(key, maxval=2.0)


def _contrast(key, image):
    mean = jnp.mean(image)
    return mean + (image - mean) * jax.random.uniform(key, minval=0.5, maxval=1.5)


def _translation(key, image):
    """Shifts by up to an eighth of each side, whole pixels; zeros come in."""
    most = np.array([int(0.125 * n + 0.5) for n in image.shape[:2]])
    shift = jax.random.randint(key, (2,), 0, 2 * most + 1)
    padded = jnp.pad(image, [(most[0],) * 2, (most[1],) * 2, (0, 0)])
    return jax.lax.dynamic_slice(padded, [*shift, 0], image.shape)


def _cutout(key, image):
    """Zeroes a rectangle of half of each side, its centre anywhere, so that it may hang over the border."""
    sides = np.array(image.shape[:2])
    sizes = (0.5 * sides + 0.5).astype(int)
    starts = jax.random.randint(key, (2,), 0, sides + 1 - sizes % 2) - sizes // 2
    rows, columns = ((jnp.arange(n) >= a) & (jnp.arange(n) < a + size) for n, a, size in zip(sides, starts, sizes))
    return jnp.where((rows[:, None] & columns)[:, :, None], 0.0, image)


POLICIES = {
    "color": (_brightness, _saturation, _contrast),
    "translation": (_translation,),
    "cutout": (_cutout,),
}


def diffaugment(keys: jax.Array, images: jax.Array, p=1.0, policy: str = "color,translation,cutout") -> jax.Array:
    """Applies DiffAugment (Zhao et al. 2020, section 3.2), all of `policy` to an example with probability p.

    color: brightness + U(-.5, .5), saturation x U(0, 2) about each pixel's grey, contrast x U(.5, 1.5) about the
    image's mean. translation: whole pixels up to an eighth of each side, zeros come in. cutout: a zero rectangle of
    half of each side. The paper has p = 1. Colours leave the transparency of RGBA as it is.

    Raises:
        ValueError: for an unknown name in `policy`, or one given twice.
    """
    names = policy.split(",")
    if not set(names) <= set(POLICIES) or len(set(names)) < len(names):
        raise ValueError(f"policy={policy!r}: give some of {', '.join(POLICIES)}, separated by commas")
    transforms = [transform for name in names for transform in POLICIES[name]]

    def example(key, image):
        for i, augment in enumerate(transforms, 1):
            is_rgba = image.shape[2] == 4 and augment in POLICIES["color"]
            changed = augment(jax.random.fold_in(key, i), image[..., :3] if is_rgba else image)
            image = jnp.concatenate([changed, image[..., 3:]], axis=2) if is_rgba else changed
        return image

    fires = rng.uniform(rng.fold(keys, 0)) < p
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    return where_fired(fires, jax.vmap(example)(keys, wide), wide).astype(images.dtype)


# What a config can name. "ada" is the official default.
AUGMENTATIONS = {
    "diffaugment": diffaugment,
    "ada": ada,
    **{name: functools.partial(ada, pipe=pipe) for name, pipe in PIPES.items()},
}


@flax.struct.dataclass
class Augmentation:
    """What all images pass before D sees them, and how strongly.

    Attributes:
      fn: (keys [B], images [B, H, W, C], p) -> images, such as those of `AUGMENTATIONS`.
      p: its strength, a schedule or a number; where it starts if it is adaptive.
      adaptive: whether p follows the mean sign of D's logits on reals (Karras et al. 2020, section 3.2).
      target: that mean, where p rests.
      speed_kimg: thousands of real images in which an adaptive p can go from 0 to 1.
      shared_draws: whether a fake gets the draws of the real beside it in the batch.
    """

    fn: Callable = flax.struct.field(pytree_node=False)
    p: Schedule | float = Schedule(1.0)
    adaptive: bool = flax.struct.field(pytree_node=False, default=False)
    target: float = 0.6
    speed_kimg: float = 500.0
    shared_draws: bool = flax.struct.field(pytree_node=False, default=False)

    def __post_init__(self):
        object.__setattr__(self, "p", as_schedule(self.p))
        require_function("Augmentation.fn", self.fn, 3, "give a function of keys, images and p")
        require_range("Augmentation.p", self.p, most=1.0)
        if isinstance(self.target, int | float):  # or an array, traced or not
            require_finite("Augmentation.target", self.target, -1.0, 1.0)

    def __call__(self, keys, images, p) -> jax.Array:
        """Returns what `fn` does, if those are images that a gradient can pass."""
        augmented = self.fn(keys, images, p)
        shape, dtype = getattr(augmented, "shape", None), getattr(augmented, "dtype", jnp.int32)
        same = shape == images.shape and jnp.issubdtype(dtype, jnp.floating)
        right = f"must return images {list(images.shape)} of floats"
        require(same, "Augmentation.fn", function_name(self.fn), right)
        return augmented

    @property
    def running(self) -> dict[str, float]:
        """The running scalars that a state has for it, as they begin."""
        return {"p": self.p.start} if self.adaptive else {}

    def strength(self, running: dict, images_seen: ArrayLike) -> jax.Array:
        """Returns the present p."""
        return running["p"] if self.adaptive else self.p(images_seen)

    def adapt(self, running: dict, real_sign: ArrayLike, images: ArrayLike) -> dict:
        """Returns the running scalars after `images` more images, p within [0, 1].

        p rises or falls by images / (1000 speed_kimg), as `real_sign`, the mean of sign(D(real)) over these images and
        all devices, is above or below `target`: D overfits or not. The official code has no upper limit; above 1 its
        p changes nothing in a pipe of multipliers 1 but takes as long to come down again.
        """
        step = jnp.sign(real_sign - self.target) * images / (1e3 * self.speed_kimg)
        return {"p": jnp.clip(running["p"] + step, 0.0, 1.0)}
