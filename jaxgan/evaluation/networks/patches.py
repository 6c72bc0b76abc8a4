"""What is compared without any network: patches of an image's Laplacian pyramid, and the image itself.

Both are "networks" without weights, so that their metrics need nothing but the images and work at any size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.evaluation.networks.network import FeatureNetwork

SIDE = 7  # pixels of a patch (Karras et al. 2018, section 5)
SMALLEST = 16  # pixels of the coarsest level
PATCHES = 16  # of each image at each level; the paper has 128
MOST_IMAGES = 2**14  # of a set, as in the paper
LARGEST = 128  # pixels of an image for MS-SSIM, as in Odena et al. 2017
_TAPS = np.float32([1, 4, 6, 4, 1]) / 16


def laplacian_pyramid(images: jax.Array) -> list[jax.Array]:
    """Returns images [B, H, W, C] as differences between levels of detail, the finest first, down to 16 pixels.

    Each level lacks what the next coarser one has; the last lacks nothing. Borders are mirrored. An image below 32
    pixels is its only level.
    """
    levels = [images]
    while min(levels[-1].shape[1:3]) >= 2 * SMALLEST:
        fine = levels[-1]
        coarse = _blur(fine)[:, ::2, ::2]
        wide = jnp.zeros_like(fine).at[:, ::2, ::2].set(coarse)
        levels[-1:] = [fine - 4 * _blur(wide), coarse]
    return levels


def _blur(x: jax.Array) -> jax.Array:
    for axis in (1, 2):
        margins = [(2, 2) if i == axis else (0, 0) for i in range(4)]
        wide, size = jnp.pad(x, margins, mode="reflect"), x.shape[axis]
        x = sum(tap * jax.lax.slice_in_dim(wide, i, i + size, axis=axis) for i, tap in enumerate(_TAPS))
    return x


def _apply(_, images: jax.Array) -> dict[str, jax.Array]:
    """Returns {"pyramid": H, W and C, and then the patches [levels, PATCHES, SIDE, SIDE, C], all in one row}.

    Where the patches are is drawn by a hash of the image, so that they depend on nothing else.
    """
    b, height, width, channels = images.shape
    if min(height, width) < SIDE:
        raise ValueError(f"patches of {SIDE}x{SIDE} pixels take images of that size at least, not {height}x{width}")
    flat = images.reshape(b, -1).astype(jnp.uint32)
    factors = (jnp.arange(flat.shape[1], dtype=jnp.uint32) * 2 + 1) * jnp.uint32(2654435761)
    hashes = jnp.sum(flat * factors, axis=1, dtype=jnp.uint32)

    def cut(key, level):
        limits = jnp.array(level.shape[:2]) - SIDE + 1
        corners = jax.random.randint(key, (PATCHES, 2), 0, limits)
        return jax.vmap(lambda at: jax.lax.dynamic_slice(level, (*at, 0), (SIDE, SIDE, channels)))(corners)

    rows = [jnp.tile(jnp.float32([height, width, channels]), (b, 1))]
    for i, level in enumerate(laplacian_pyramid(images.astype(jnp.float32))):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(i), hashes)
        rows.append(jax.vmap(cut)(keys, level).reshape(b, -1))
    return {"pyramid": jnp.concatenate(rows, axis=1)}


def unpack(features: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the patches of features "patches/pyramid" [N, F], {"32": float32 [N, PATCHES, SIDE * SIDE, C], ...}.

    The keys are the smaller sides of the levels, the finest first.
    """
    height, width, channels = (int(x) for x in features[0, :3])
    patches = features[:, 3:].reshape(len(features), -1, PATCHES, SIDE * SIDE, channels)
    sides = [min(height, width)]
    while len(sides) < patches.shape[1]:
        sides.append(-(-sides[-1] // 2))
    return {str(side): patches[:, i] for i, side in enumerate(sides)}


def _small(_, images: jax.Array) -> dict[str, jax.Array]:
    """Returns {"small": H, W and C, and then the image in 0..255, reduced to 128 pixels, all in one row}."""
    b, *size, channels = images.shape
    images = images.astype(jnp.float32)
    if max(size) > LARGEST:
        size = [max(1, round(side * LARGEST / max(size))) for side in size]
        images = jax.image.resize(images, (b, *size, channels), "bilinear", antialias=True)
    head = jnp.tile(jnp.float32([*size, channels]), (b, 1))
    return {"small": jnp.concatenate([head, images.reshape(b, -1)], axis=1)}


def unpack_images(features: np.ndarray) -> np.ndarray:
    """Returns the images of features "pixels/small" [N, F], float32 [N, H, W, C]."""
    return features[:, 3:].reshape(-1, *(int(x) for x in features[0, :3]))


def load_patches() -> FeatureNetwork:
    """Returns the cutter of patches, of at most 2^14 images of a set."""
    how = f"{PATCHES} patches of {SIDE}x{SIDE} at each level, at most {MOST_IMAGES:,} images"
    return FeatureNetwork("patches", _apply, {}, "", how, most=MOST_IMAGES)


def load_pixels() -> FeatureNetwork:
    """Returns the identity, of at most 2,000 images of a set."""
    return FeatureNetwork("pixels", _small, {}, "", f"to at most {LARGEST} pixels, at most 2,000 images", most=2000)
