"""StyleGAN2 (Karras et al. 2020) as in StyleGAN2-ADA (Karras et al. 2020b), by default its nets for CIFAR-10.

At 32 pixels G has 19,947,539 and D 20,720,641 parameters, conditional on 10 classes 20,215,315 and 23,089,664.
At 64 pixels and above the papers train D with `architecture="resnet"` and groups of 4 or 8, and photographs with 8
mapping layers in G, `style_mixing=0.9` and the path-length penalty.

Learning rates are equalised (Karras et al. 2018, sec. 4.1): weights start as N(0, 1) and are scaled to their
fan-in at run time, so that Adam's step is the same share of every weight.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.core import rng
from jaxgan.models.layers import BaseDiscriminator, BaseGenerator, bounded, broadcast_like
from jaxgan.ops.blur import conv_down, conv_up, downsample, upsample
from jaxgan.ops.conv import conv

CHANNEL_BASE, CHANNEL_MAX = 32768, 512
SIZES = tuple(2**i for i in range(3, 11))


def resolution_widths(image_size: int, base: int = CHANNEL_BASE, maximum: int = CHANNEL_MAX) -> tuple[int, ...]:
    """Returns the width of each resolution from 4 to `image_size`: min(base / resolution, maximum)."""
    return tuple(max(1, min(base // r, maximum)) for r in (4, *SIZES) if r <= image_size)


WIDTHS = {size: resolution_widths(size) for size in SIZES}  # G's; D's are the reverse


class Generator(BaseGenerator):
    """Maps z by `mapping` to a style w for each layer, and these by `synthesis` to images that are not bounded.

    In training a mutable collection `w_avg` follows the mean w, for truncation. Without `keys` there is no noise.

    Attributes:
      image_size: 8 .. 1024, a power of two, or others, see `BaseGenerator.square_size`.
      channels: widths at 4, 8, .., image_size; if empty, the rule of `channel_base` and `channel_max`.
      dtype: compute type of the `low_precision` largest resolutions, but 4x4; all else is float32.
      axis_name: axis of the devices that share a batch, for the mean w in training.
      conv_clamp: bound on the output of each layer, if dtype is narrower than float32.
      w_dim: width of the mapping network and of a style.
      style_mixing: probability, in training, that an example's layers from a random one on follow a second z.
      w_avg_decay: weight of the old mean of w at each training step.
    """

    channel_base: int = bounded(CHANNEL_BASE, 1)
    channel_max: int = bounded(CHANNEL_MAX, 1)
    low_precision: int = bounded(4)
    conv_clamp: float = bounded(256.0, 1)
    w_dim: int = bounded(512, 1)
    mapping_layers: int = bounded(2, 1)
    style_mixing: float = bounded(0.0, 0, 1)
    w_avg_decay: float = bounded(0.995, 0, 1)

    WIDTHS = WIDTHS
    stages = True
    body, mapping_body = "synthesis_net", "mapping_net"
    latent_layers = "style"

    def default_widths(self) -> tuple[int, ...]:
        return resolution_widths(self.square_size, self.channel_base, self.channel_max)

    def setup(self):
        channels = self.widths
        self.mapping_net = Mapping(self.w_dim, self.mapping_layers, self.num_classes)
        self.synthesis_net = Synthesis(self.base, channels, self.image_channels, _dtypes(self), _clamp(self))
        self.num_ws = 2 * len(channels)
        self.w_avg = self.variable("w_avg", "mean", jnp.zeros, (self.w_dim,))

    def __call__(self, z, labels, train, keys=None, psi=1.0, cutoff=None) -> jax.Array:
        return self.synthesis(self.mapping(z, labels, train, keys, psi, cutoff), keys)

    def mapping(self, z, labels, train, keys=None, psi=1.0, cutoff=None) -> jax.Array:
        """Returns styles [B, num_ws, w_dim] of latents [B, Z], num_ws = 2 log2(square_size) - 2.

        Args:
          psi: truncation (Karras et al. 2019, sec. B); 1: none, 0: the mean w for all.
          cutoff: how many layers, from the first, are truncated; all if None.
        """
        w = self.mapping_net(z, labels)
        if train and self.is_mutable_collection("w_avg") and not self.is_initializing():
            mean = jnp.mean(lax.stop_gradient(w), axis=0)
            if self.axis_name is not None:
                mean = lax.pmean(mean, self.axis_name)
            self.w_avg.value += (1.0 - self.w_avg_decay) * (mean - self.w_avg.value)
        ws = jnp.repeat(w[:, None], self.num_ws, axis=1)
        layers = jnp.arange(self.num_ws)
        if train and self.style_mixing:
            if keys is None:
                raise ValueError(f"style_mixing={self.style_mixing}: needs keys in training, one an example")
            keys = rng.fold(keys, 0)
            second = self.mapping_net(rng.normal(rng.fold(keys, 0), z.shape[1:]), labels)
            start = 1 + rng.randint(rng.fold(keys, 1), self.num_ws - 1)
            start = jnp.where(rng.uniform(rng.fold(keys, 2)) < self.style_mixing, start, self.num_ws)
            ws = jnp.where((layers >= start[:, None])[..., None], second[:, None], ws)
        weight = jnp.where(layers < (self.num_ws if cutoff is None else cutoff), psi, 1.0)[:, None]
        return weight * ws + (1.0 - weight) * self.w_avg.value

    def synthesis(self, ws, keys=None) -> jax.Array:
        """Returns images [B, H, W, C] of styles [B, num_ws, w_dim]; without keys there is no noise."""
        return self.synthesis_net(ws, keys)


class Discriminator(BaseDiscriminator):
    """Has convolutions that halve the size to 4x4, the standard deviation within groups, and two dense layers.

    With classes the logit is the inner product of the features and a mapped class, over the root of their number.

    Attributes:
      image_size, dtype, conv_clamp: as in `Generator`.
      channels: widths at image_size, .., 8, 4; if empty, the rule of `channel_base` and `channel_max`.
      axis_name: axis of the devices that share a batch. With it, groups in training are taken from the global batch;
        without it, and with train=False, from the batch given.
      architecture: "orig" for plain convolutions or "resnet" for residual ones.
      group_size, group_channels: as in `minibatch_stddev`; group_channels=0 turns it off.
    """

    channel_base: int = bounded(CHANNEL_BASE, 1)
    channel_max: int = bounded(CHANNEL_MAX, 1)
    low_precision: int = bounded(4)
    conv_clamp: float = bounded(256.0, 1)
    architecture: str = "orig"
    mapping_layers: int = bounded(8)
    group_size: int = bounded(32, 1)
    group_channels: int = bounded(1, 1)

    WIDTHS: ClassVar = {size: widths[::-1] for size, widths in WIDTHS.items()}
    stages = True
    conditionings = ("projection",)
    batch_dependent = True

    def default_widths(self) -> tuple[int, ...]:
        return resolution_widths(self.square_size, self.channel_base, self.channel_max)[::-1]

    @nn.compact
    def __call__(self, images, labels, train, keys=None) -> tuple[jax.Array, dict]:
        if self.architecture not in ("orig", "resnet"):
            raise ValueError(f"architecture={self.architecture!r}: choose one of orig, resnet")
        *channels, last = self.widths
        dtypes, clamp = _dtypes(self)[::-1], _clamp(self)
        residual = self.architecture == "resnet"
        gain = 0.5**0.5 if residual else 1.0  # the sum of two branches of half the variance

        x = EqualConv(channels[0], 1, clamp=clamp, name="from_rgb")(images.astype(dtypes[0]))
        for i, (width, below) in enumerate(zip(channels, (*channels[1:], last), strict=True)):
            x = x.astype(dtypes[i])
            h = EqualConv(width, clamp=clamp, name=f"conv_{i}a")(x)
            h = EqualConv(below, convolve=conv_down, gain=gain, clamp=clamp, name=f"conv_{i}b")(h)
            if residual:
                kernel = self.param(f"skip_{i}", nn.initializers.normal(1.0), (1, 1, width, below))
                h += conv(downsample(x), (kernel * (gain / width**0.5)).astype(x.dtype))
            x = h
        x = x.astype(jnp.float32)
        if self.group_channels:
            axis_name = self.axis_name if train else None
            x = minibatch_stddev(x, self.group_size, self.group_channels, axis_name)
        x = EqualConv(last, clamp=clamp, name="conv")(x)
        x = leaky_relu(EqualDense(last, name="dense")(x.reshape(len(x), -1)))
        if not self.num_classes:
            return self.logits_from_layer(x, EqualDense(1, name="logit"))
        features = EqualDense(last, name="features")(x)
        classes = Mapping(last, self.mapping_layers, self.num_classes, name="mapping")(None, labels)
        return self.logits_from_weights(features, classes / last**0.5)


class Mapping(nn.Module):
    """Maps latents and classes, each of mean square 1, to w [B, w_dim] by dense layers of a small learning rate."""

    w_dim: int
    layers: int
    num_classes: int = 0

    @nn.compact
    def __call__(self, z: jax.Array | None, labels: jax.Array | None) -> jax.Array:
        inputs = [] if z is None else [pixel_norm(z)]
        if self.num_classes:
            inputs.append(pixel_norm(EqualDense(self.w_dim, name="classes")(jax.nn.one_hot(labels, self.num_classes))))
        x = jnp.concatenate(inputs, axis=-1)
        for i in range(self.layers):
            x = leaky_relu(EqualDense(self.w_dim, lr_multiplier=0.01, name=f"dense_{i}")(x))
        return x


class Synthesis(nn.Module):
    """Has a learned constant map, two modulated convolutions a resolution, and a sum of upsampled images ("skip")."""

    base: tuple[int, int]  # height and width of the constant
    channels: tuple[int, ...]
    image_channels: int
    dtypes: tuple[jnp.dtype, ...]
    clamp: float | None

    @nn.compact
    def __call__(self, ws: jax.Array, keys: jax.Array | None) -> jax.Array:
        const = self.param("const", nn.initializers.normal(1.0), (*self.base, self.channels[0]))
        x = jnp.broadcast_to(const, (len(ws), *const.shape))
        images = None
        for i, (width, dtype) in enumerate(zip(self.channels, self.dtypes, strict=True)):
            x = x.astype(dtype)
            for name in "ab" if i else "b":  # a: from the resolution below; each with its w and its noise
                n = 2 * i - (name == "a")
                convolve = conv_up if name == "a" else conv
                layer = StyleConv(width, convolve=convolve, clamp=self.clamp, name=f"conv_{i}{name}")
                x = layer(x, ws[:, n], None if keys is None else rng.fold(keys, 1 + n))
            style = 2 * i + 1  # that of the next convolution
            rgb = StyleToRGB(self.image_channels, clamp=self.clamp, name=f"to_rgb_{i}")(x, ws[:, style])
            images = rgb if images is None else upsample(images) + rgb
        return images


class StyleConv(nn.Module):
    """Applies a 3x3 convolution modulated by w and demodulated, noise, bias, leaky ReLU."""

    features: int
    convolve: Callable = conv
    clamp: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, keys: jax.Array | None) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.normal(1.0), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        strength = self.param("noise", nn.initializers.zeros_init(), ())
        styles = EqualDense(x.shape[-1], bias_init=1.0, name="style")(w)
        x = modulated_conv(x, kernel, styles, convolve=self.convolve)
        if keys is not None:
            x += (strength * rng.normal(keys, (*x.shape[1:3], 1))).astype(x.dtype)
        return _clip(leaky_relu(x + broadcast_like(bias, x)), self.clamp)


class StyleToRGB(nn.Module):
    """Applies a 1x1 convolution modulated by w, not demodulated, to float32 pixels."""

    features: int
    clamp: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(1.0), (1, 1, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        styles = EqualDense(channels, bias_init=1.0, name="style")(w) / channels**0.5
        x = modulated_conv(x, kernel, styles, demodulate=False)
        return _clip(x + broadcast_like(bias, x), self.clamp).astype(jnp.float32)


class EqualDense(nn.Module):
    """Applies a dense layer with an equalised learning rate, [.., I] to [.., features], and no activation.

    With `lr_multiplier` m it learns m times as fast: weights are stored divided by m, and weights and bias multiplied
    by m in use.
    """

    features: int
    lr_multiplier: float = 1.0
    bias_init: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, m = x.shape[-1], self.lr_multiplier
        kernel = self.param("kernel", nn.initializers.normal(1.0 / m), (inputs, self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        return x @ (kernel * (m / inputs**0.5)) + bias * m


class EqualConv(nn.Module):
    """Applies a convolution with an equalised learning rate, bias, leaky ReLU, `gain` and clamp, in the type of x."""

    features: int
    size: int = 3
    convolve: Callable = conv
    gain: float = 1.0
    clamp: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        fan_in = self.size**2 * x.shape[-1]
        x = self.convolve(x, (kernel / fan_in**0.5).astype(x.dtype))
        x = self.gain * leaky_relu(x + broadcast_like(bias, x))
        return _clip(x, None if self.clamp is None else self.gain * self.clamp)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Applies leaky ReLU of slope 0.2, times sqrt 2, which nearly keeps the mean square of a normal input."""
    return 2**0.5 * nn.leaky_relu(x, 0.2)


def modulated_conv(x, kernel, styles, *, convolve=conv, demodulate: bool = True) -> jax.Array:
    """Convolves each example with its own kernel w[b] = styles[b, i] * kernel (Karras et al. 2020, sec. 2.2).

    Scaling the input by the style, and the output by the norm, is the same and shares one kernel (sec. B).

    Args:
      x: [B, H, W, I].
      kernel: [k, k, I, O].
      styles: float32 [B, I].
      convolve: `conv`, `conv_up` or `conv_down`.
      demodulate: whether to divide w[b] by its norm over k, k and I (eq. 3).
    """
    out = convolve(x * styles[:, None, None].astype(x.dtype), kernel.astype(x.dtype))
    if demodulate:
        squares = jnp.square(styles) @ jnp.sum(jnp.square(kernel), axis=(0, 1))  # [B, O]
        out *= lax.rsqrt(squares + 1e-8)[:, None, None].astype(x.dtype)
    return out


def minibatch_stddev(x, group_size: int, channels: int = 1, axis_name: str | None = None) -> jax.Array:
    """Appends, as constant maps, the standard deviation over a group of examples (Karras et al. 2018, sec. 3).

    A batch of n has n / group_size groups; example i is in group i mod their number. With `axis_name` the batch is
    that of all devices of the axis in their order, so that the number of devices changes nothing.

    Args:
      x: [B, H, W, C].
      group_size: examples in a group; all of a batch that has fewer.
      channels: maps to append; each is the mean over its part of the C channels and over space.

    Returns:
      [B, H, W, C + channels].

    Raises:
      ValueError: groups do not divide the batch, or maps do not divide the channels.
    """
    everyone = x if axis_name is None else lax.all_gather(x, axis_name, tiled=True)
    n, *space, width = everyone.shape
    group_size = min(group_size, n)
    if n % group_size:
        raise ValueError(f"group_size={group_size}: must divide the {n} examples of the batch")
    if width % channels:
        raise ValueError(f"group_channels={channels}: must divide the {width} channels")
    split = everyone.reshape(group_size, n // group_size, *space, channels, width // channels)
    stddev = jnp.sqrt(jnp.var(split, axis=0) + 1e-8).mean(axis=(1, 2, 4))  # [groups, channels]
    stddev = jnp.tile(stddev, (group_size, 1))  # [n, channels]
    if axis_name is not None:
        stddev = lax.dynamic_slice_in_dim(stddev, lax.axis_index(axis_name) * len(x), len(x))
    maps = jnp.broadcast_to(stddev[:, None, None], (*x.shape[:3], channels))
    return jnp.concatenate([x, maps.astype(x.dtype)], axis=-1)


def _dtypes(net) -> tuple[jnp.dtype, ...]:
    """Returns the compute type at 4, 8, .., square_size."""
    if jnp.dtype(net.dtype) == jnp.float16:
        raise ValueError("dtype=float16: modulated convolutions would overflow; choose bfloat16 or float32")
    resolutions = [4 << i for i in range(len(net.widths))]
    low = max(8, 2 * net.square_size >> net.low_precision)
    return tuple(jnp.dtype(net.dtype if r >= low else jnp.float32) for r in resolutions)


def _clamp(net) -> float | None:
    """Returns the bound on the output of a layer; None: there is none."""
    return net.conv_clamp if jnp.dtype(net.dtype).itemsize < 4 else None


def _clip(x, bound: float | None):
    """Clips x to -bound .. bound, or returns it as it is."""
    return x if bound is None else jnp.clip(x, -bound, bound)


def pixel_norm(x):
    """Scales x to mean square 1 over the last axis (Karras et al. 2018, sec. 4.2)."""
    return x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)
