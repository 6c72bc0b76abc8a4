"""R3GAN (Huang et al. 2024): residual nets without normalisation, for a relativistic loss with R1 and R2.

At 32 pixels with z of 64, G has 20,732,160 and D 20,683,776 parameters; with 10 classes 20,781,952 and 21,280,512.
Every residual branch starts at zero (Fixup, Zhang et al. 2019), so G and D are linear in their inputs at first. G is
conditioned on classes by a learned vector beside z, D by projection (Miyato & Koyama 2018).
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.models.layers import BaseDiscriminator, BaseGenerator, Conv, bounded
from jaxgan.ops.blur import downsample, upsample

_WIDTHS = (768, 768, 768, 768, 384, 192, 96)  # at 4, 8, ... 256 pixels
# As published: 32 pixels for CIFAR-10, 64 and 256 for FFHQ; ImageNet is twice as wide, with group_width=32.
WIDTHS = {4 << i: _WIDTHS[: i + 1] for i in range(1, len(_WIDTHS))}  # G's; D's are the reverse
IMAGENET_WIDTHS = {32: (1536,) * 4, 64: (1536,) * 5}  # for both G and D

LINEAR = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
FLOAT32 = dict(dtype=jnp.float32, precision=lax.Precision.HIGHEST)  # neither TF32 nor bfloat16 passes


def check_groups(width: int, group_width: int) -> None:
    """Raises a ValueError unless `width` channels split into groups of `group_width`."""
    if width % group_width:
        raise ValueError(f"group_width={group_width}: must divide the {width} channels of a hidden layer")


def in_float32(resample, x: jax.Array) -> jax.Array:
    """Returns resample(x), rounded to the type of x once, at the end."""
    return resample(x.astype(jnp.float32)).astype(x.dtype)


def stage_policy(stage: int, num_stages: int, dtype) -> dict:
    """Returns `dtype` and `precision` of a stage, 0 being 4x4: `dtype` in the four largest, but never at 4x4."""
    return FLOAT32 if stage == 0 or num_stages - stage > 4 else dict(dtype=dtype, precision=None)


class Block(nn.Module):
    """Adds a branch to x: 1x1 to `expansion` times the width, 3x3 in groups of `group_width`, 1x1 back; LeakyReLU 0.2.

    `num_blocks` is the number in the whole net: the first two layers start smaller by its root of order 2 * (3 - 1).
    """

    num_blocks: int
    expansion: int
    group_width: int
    dtype: jnp.dtype
    precision: lax.PrecisionLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def conv(features, size, name, **options):
            policy = dict(dtype=self.dtype, precision=self.precision)
            return Conv(features, (size, size), name=name, **policy, **options)

        hidden = self.expansion * x.shape[-1]
        check_groups(hidden, self.group_width)
        init = nn.initializers.variance_scaling(2 / (1 + 0.2**2) * self.num_blocks**-0.5, "fan_in", "normal")
        h = nn.leaky_relu(conv(hidden, 1, "expand", kernel_init=init)(x), 0.2)
        groups = hidden // self.group_width
        h = nn.leaky_relu(conv(hidden, 3, "spatial", kernel_init=init, feature_group_count=groups)(h), 0.2)
        return x + conv(x.shape[-1], 1, "reduce", kernel_init=nn.initializers.zeros, use_bias=False)(h)


class Generator(BaseGenerator):
    """Weighs a learned 4x4 basis by z, then has residual blocks, [upsampling, blocks] to full size, 1x1; no tanh."""

    blocks: int = bounded(2)  # in each stage
    expansion: int = bounded(2, 1)
    group_width: int = bounded(16, 1)

    WIDTHS = WIDTHS
    stages = True
    latent_layers = "dense"

    @nn.compact
    def __call__(self, z, labels, train, keys=None) -> jax.Array:
        def conv(width, name):
            return Conv(width, (1, 1), use_bias=False, kernel_init=LINEAR, name=name, **policy)

        widths = self.widths
        x = z
        if self.num_classes:
            classes = nn.Embed(self.num_classes, z.shape[-1], embedding_init=LINEAR, name="classes")
            x = jnp.concatenate([z, classes(labels)], axis=-1)
        x = nn.Dense(widths[0], use_bias=False, kernel_init=LINEAR, name="dense", **FLOAT32)(x)
        x = x[:, None, None] * self.param("basis", nn.initializers.normal(1.0), (*self.base, widths[0]))
        for i, width in enumerate(widths):
            policy = stage_policy(i, len(widths), self.dtype)
            x = x.astype(policy["dtype"])
            if width != x.shape[-1]:
                x = conv(width, f"width_{i}")(x)
            if i:
                x = in_float32(upsample, x)
            for j in range(self.blocks):
                num_blocks = self.blocks * len(widths)
                x = Block(num_blocks, self.expansion, self.group_width, name=f"block_{i}_{j}", **policy)(x)
        return conv(self.image_channels, "pixels")(x).astype(jnp.float32)


class Discriminator(BaseDiscriminator):
    """Has 1x1 from pixels, [residual blocks, downsampling] to 4x4, blocks, a learned 4x4 basis a channel, dense."""

    blocks: int = bounded(2)  # in each stage
    expansion: int = bounded(2, 1)
    group_width: int = bounded(16, 1)

    WIDTHS: ClassVar = {size: widths[::-1] for size, widths in WIDTHS.items()}
    stages = True
    conditionings = ("projection",)
    batch_dependent = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None) -> tuple[jax.Array, dict]:
        def conv(width, name):
            return Conv(width, (1, 1), use_bias=False, kernel_init=LINEAR, name=name, **policy)

        widths = self.widths
        policy = stage_policy(len(widths) - 1, len(widths), self.dtype)
        x = conv(widths[0], "pixels")(images)
        for i, width in enumerate(widths):
            if i:
                x = in_float32(downsample, x)
            if width != x.shape[-1]:
                x = conv(width, f"width_{i}")(x)  # in the precision of the stage before
            policy = stage_policy(len(widths) - 1 - i, len(widths), self.dtype)
            x = x.astype(policy["dtype"])
            for j in range(self.blocks):
                num_blocks = self.blocks * len(widths)
                x = Block(num_blocks, self.expansion, self.group_width, name=f"block_{i}_{j}", **policy)(x)
        x = jnp.sum(x * self.param("basis", nn.initializers.normal(0.25), (*self.base, widths[-1])), axis=(1, 2))
        features = widths[-1] if self.num_classes else 1
        dense = nn.Dense(features, use_bias=False, kernel_init=LINEAR, name="dense", **FLOAT32)
        if not self.num_classes:
            return self.logits_from_layer(x, dense)
        init = nn.initializers.variance_scaling(1 / features, "fan_in", "normal")
        classes = nn.Embed(self.num_classes, features, embedding_init=init, name="classes")
        return self.logits_from_weights(dense(x), classes(labels))
