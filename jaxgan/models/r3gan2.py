"""R3GAN2, the successor to R3GAN that its authors published (2026): the same game, magnitude-preserving nets.

At 32 pixels, z of 64 and `channels` of 512, G has 17,335,425 and D 17,720,832 parameters with 10 classes.

Magnitude preservation (Karras et al. 2024, EDM2): only the direction of a weight matters. Each output's filter is
centred, then divided by its RMS and the root of its fan-in when used, so that inputs of variance 1 give outputs of
variance 1. A residual branch is scaled by alpha = tanh(v) in each channel, v = 0 at first. The sums of a stage grow to
sqrt(1 + sum of alpha^2), which is divided out where they are read. `normalise_params` after each optimizer step keeps
the stored weights, hence the effective learning rate, at their size.
"""

import functools
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.core import rng
from jaxgan.models.layers import BaseDiscriminator, BaseGenerator, bounded, broadcast_like
from jaxgan.models.r3gan import FLOAT32, check_groups, in_float32
from jaxgan.ops.blur import downsample, upfirdn, upsample
from jaxgan.ops.conv import conv

_WIDTHS = (512, 512, 512, 512, 256, 128)  # at 8, 16, ... 256 pixels
# As published: 32 pixels for CIFAR-10, 64 and 256 for FFHQ; ImageNet is twice as wide.
WIDTHS = {8 << i: _WIDTHS[: i + 1] for i in range(len(_WIDTHS))}  # G's; D's are the reverse
IMAGENET_WIDTHS = {32: (1024,) * 3, 64: (1024,) * 4}  # for both G and D

HIGHEST = FLOAT32["precision"]
CENTRED = {"kernel": False, "kernel_centred": True}  # the names of normalised parameters, and whether they are centred
# After LeakyReLU 0.2, this factor gives a standard normal variable a standard deviation of 1 again.
GAIN = 1 / math.sqrt(((1 + 0.2**2) - (1 - 0.2) ** 2 / math.pi) / 2)


def normalise_kernel(kernel: jax.Array, centred: bool) -> jax.Array:
    """Returns a kernel [..., outputs] with RMS 1 and, if `centred`, mean 0 in each output's filter."""
    axes = tuple(range(kernel.ndim - 1))
    if centred:
        kernel = kernel - jnp.mean(kernel, axes)
    return kernel / (jnp.sqrt(jnp.mean(jnp.square(kernel), axes)) + 1e-4)


def normalise_params(params: dict) -> dict:
    """Returns the parameters of a net of this file with every weight normalised as it is in use.

    The net stays the same function, up to the 1e-4 that `normalise_kernel` adds to the RMS.
    """

    def leaf(path, value):
        name = path[-1].key
        return normalise_kernel(value, CENTRED[name]) if name in CENTRED else value

    return jax.tree_util.tree_map_with_path(leaf, params)


class Weight(nn.Module):
    """Returns a learned weight [..., outputs] as it is in use: normalised, over the root of its fan-in; float32."""

    shape: tuple[int, ...]
    fan_in: int = 0  # terms of a weighted sum; 0: the product of all axes of the shape but the last
    centred: bool = True
    init: nn.initializers.Initializer = nn.initializers.normal(1.0)

    @nn.compact
    def __call__(self) -> jax.Array:
        kernel = self.param("kernel_centred" if self.centred else "kernel", self.init, self.shape)
        return normalise_kernel(kernel, self.centred) / math.sqrt(self.fan_in or math.prod(self.shape[:-1]))


def class_vectors(num_classes: int, width: int, labels: jax.Array) -> jax.Array:
    """Returns learned vectors of RMS 1, [B, width], which start the same for all classes."""

    def init(key, shape):
        return jnp.tile(normalise_kernel(jax.random.normal(key, (width, 1)), centred=True), (1, num_classes))

    return Weight((width, num_classes), fan_in=1, init=init, name="classes")().T[labels]


def leaky_relu(x: jax.Array) -> jax.Array:
    """Applies LeakyReLU 0.2 and the factor that keeps a standard deviation of 1."""
    return GAIN * nn.leaky_relu(x, 0.2)


def pointwise(x: jax.Array, kernel: jax.Array, gain=1.0, noise=None, precision=None) -> jax.Array:
    """Returns a 1x1 convolution of x * gain and two more inputs: the noise [B, H, W, 1], if any, and 1 for a bias.

    The rows of those two come last in `kernel` [inputs, outputs]: they are normalised as parts of its filters.
    """
    width = x.shape[-1]
    scaled = (kernel[:width] * jnp.reshape(gain, (-1, 1))).astype(x.dtype)
    x = conv(x, scaled[None, None], precision=precision)
    if noise is not None:
        x = x + (noise * kernel[width]).astype(x.dtype)
    return x + broadcast_like(kernel[-1], x)


def enlarge(x: jax.Array, width: int) -> jax.Array:
    """Maps [B, H, W, C] to [B, 2H, 2W, width]; to another width, channels become pixels, then [1, 2, 1] smooths."""
    b, h, w, channels = x.shape
    if width == channels:
        return in_float32(upsample, x)
    if 4 * width % channels:
        raise ValueError(f"channels=(.., {channels}, {width}, ..): 4 x {width} must be a multiple of {channels}")
    x = x.repeat(4 * width // channels, axis=3).reshape(b, h, w, width, 2, 2)
    return smooth(x.transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, width))


def reduce(x: jax.Array, width: int) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/2, W/2, width]; to another width, [1, 2, 1] smooths, then pixels become channels."""
    b, h, w, channels = x.shape
    if width == channels:
        return in_float32(downsample, x)
    if 4 * channels % width:
        raise ValueError(f"channels=(.., {channels}, {width}, ..): 4 x {channels} must be a multiple of {width}")
    x = smooth(x).reshape(b, h // 2, 2, w // 2, 2, channels).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(b, h // 2, w // 2, width, -1).mean(axis=4)


def smooth(x: jax.Array) -> jax.Array:
    """Applies the filter [1, 2, 1] / 4 along both axes of the images, with zeros outside."""
    return in_float32(functools.partial(upfirdn, taps=(0.25, 0.5, 0.25), padding=(1, 1)), x)


class Block(nn.Module):
    """Adds alpha times a branch to x: 1x1 to `expansion` times the width, 3x3 in groups, 1x1 back; LeakyReLU 0.2.

    `variance` [C] is that of x in each channel if the stage began with 1. Returns the new pair.
    """

    expansion: int
    group_width: int

    @nn.compact
    def __call__(self, x: jax.Array, variance: jax.Array, noise: jax.Array | None = None):
        width = x.shape[-1]
        hidden = self.expansion * width
        check_groups(hidden, self.group_width)
        alpha = jnp.tanh(self.param("alpha", nn.initializers.zeros, (width,)))
        expand = Weight((width + 1 + (noise is not None), hidden), name="expand")()
        spatial = Weight((3, 3, self.group_width, hidden), name="spatial")()
        back = Weight((1, 1, hidden, width), name="reduce")()
        h = leaky_relu(pointwise(x, expand, lax.rsqrt(variance), noise))
        h = leaky_relu(conv(h, spatial.astype(x.dtype), groups=hidden // self.group_width))
        return x + conv(h, (alpha * back).astype(x.dtype)), variance + jnp.square(alpha)


class Stage(nn.Module):
    """Has residual blocks at one size; returns their sum and the factor [C] that gives it the variance of x again.

    With `keys` [B], each block takes an image of noise; with None there are no noise inputs.
    """

    blocks: int
    expansion: int
    group_width: int

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        variance = jnp.ones(x.shape[-1])
        for j in range(self.blocks):
            noise = None if keys is None else rng.normal(rng.fold(keys, j), (*x.shape[1:3], 1))
            x, variance = Block(self.expansion, self.group_width, name=f"block_{j}")(x, variance, noise)
        return x, lax.rsqrt(variance)


class Generator(BaseGenerator):
    """Has a dense layer, a learned 4x4 basis in groups, upsampling to 8x8, [blocks, upsampling], 1x1; no tanh.

    Every block takes an image of noise, so `keys` are needed in training and in use.
    """

    blocks: int = bounded(4)  # in each stage
    expansion: int = bounded(2, 1)
    group_width: int = bounded(32, 1)

    WIDTHS = WIDTHS
    stages = True
    normalise_params = staticmethod(normalise_params)

    @nn.compact
    def __call__(self, z, labels, train, keys=None) -> jax.Array:
        if keys is None:
            raise ValueError("keys=None: this generator draws noise, so give it one key an example")
        widths = self.widths
        hidden = self.expansion * widths[0]
        check_groups(hidden, self.group_width)
        groups = hidden // self.group_width

        classes = [class_vectors(self.num_classes, z.shape[-1], labels)] if self.num_classes else []
        x = jnp.concatenate([z, *classes, jnp.ones_like(z[:, :1])], axis=-1)
        x = leaky_relu(jnp.dot(x, Weight((x.shape[-1], hidden), name="dense")(), precision=HIGHEST))
        basis = Weight((*self.base, self.group_width, hidden), fan_in=self.group_width, name="basis")()
        basis = basis.reshape(*self.base, self.group_width, groups, self.group_width)
        x = x.reshape(-1, groups, self.group_width)
        x = jnp.einsum("bgi,hwigo->bhwgo", x, basis, precision=HIGHEST).reshape(-1, *self.base, hidden)
        x = conv(leaky_relu(x), Weight((1, 1, hidden, widths[0]), name="reduce")(), precision=HIGHEST)
        x = in_float32(upsample, x).astype(self.dtype)
        for i, after in enumerate((*widths[1:], None)):
            stage = Stage(self.blocks, self.expansion, self.group_width, name=f"stage_{i}")
            x, scale = stage(x, rng.fold(keys, i))
            if after:
                x = enlarge(x * scale.astype(x.dtype), after)
        pixels = Weight((1, 1, widths[-1], self.image_channels), centred=False, name="pixels")()
        gain = self.param("gain", nn.initializers.ones, ()) * scale
        return conv(x, (pixels * gain[:, None]).astype(x.dtype)).astype(jnp.float32)


class Discriminator(BaseDiscriminator):
    """Has 1x1, [blocks, downsampling] to 4x4, 1x1, a learned 4x4 basis in groups, dense; projects on class vectors."""

    blocks: int = bounded(4)  # in each stage
    expansion: int = bounded(2, 1)
    group_width: int = bounded(32, 1)

    WIDTHS: ClassVar = {size: widths[::-1] for size, widths in WIDTHS.items()}
    normalise_params = staticmethod(normalise_params)
    stages = True
    conditionings = ("projection",)
    batch_dependent = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None) -> tuple[jax.Array, dict]:
        widths = self.widths
        hidden = self.expansion * widths[-1]
        check_groups(hidden, self.group_width)
        groups = hidden // self.group_width

        pixels = Weight((1, 1, images.shape[-1], widths[0]), centred=False, name="pixels")()
        x = conv(images.astype(self.dtype), pixels.astype(self.dtype))
        for i, after in enumerate((*widths[1:], None)):
            x, scale = Stage(self.blocks, self.expansion, self.group_width, name=f"stage_{i}")(x)
            if after:
                x = reduce(x * scale.astype(x.dtype), after)

        x = downsample(x.astype(jnp.float32))
        expand = Weight((widths[-1] + 1, hidden), name="expand")()
        x = leaky_relu(pointwise(x, expand, scale, precision=HIGHEST))
        basis = Weight((*self.base, self.group_width, hidden), name="basis")()
        x = leaky_relu(conv(x, basis, padding="VALID", groups=groups, precision=HIGHEST)).reshape(-1, hidden)
        features = widths[-1] if self.num_classes else 1
        dense = Weight((hidden, features), name="dense")()
        if not self.num_classes:
            return self.logits_from_weights(x, dense[:, 0])
        x = jnp.dot(x, dense, precision=HIGHEST)
        return self.logits_from_weights(x, class_vectors(self.num_classes, features, labels) / math.sqrt(features))
