"""The bases of every generator and discriminator, and the layers that several architectures share.

Images are NHWC. Nets compute in `dtype`; their parameters are float32. See `jaxgan.models` for what an architecture is.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.core import rng
from jaxgan.core.errors import require_finite, require_whole
from jaxgan.core.shapes import ImageSize, doubled_map, height_width, size_in_words, squares_in_words
from jaxgan.ops import conv as ops


def bounded(default: int | float, least: float = 0, most: float = math.inf):
    """Returns a field of a net that must be in `least` .. `most`, and a whole number where `default` is one."""
    return dataclasses.field(default=default, metadata={"bounds": (least, most)})


def check_fields(net: nn.Module) -> None:
    """Raises a ConfigError that begins with "field=value: " unless all `bounded` fields of a net are within bounds.

    Example:
      >>> from jaxgan.models import MODELS
      >>> check_fields(MODELS["r3gan"][0](expansion=0))
      Traceback (most recent call last):
      jaxgan.core.errors.ConfigError: expansion=0: must be a whole number, 1 or above
    """
    for field in dataclasses.fields(net):
        if "bounds" in field.metadata:
            require_number = require_whole if isinstance(field.default, int) else require_finite
            require_number(field.name, getattr(net, field.name), *field.metadata["bounds"])


class _Net(nn.Module):
    """Holds what generators and discriminators have in common: their fields and the check of their widths."""

    image_size: ImageSize = 32  # of square images, or height and width where the architecture has `stages`
    image_channels: int = 3
    num_classes: int = 0  # 0: unconditional
    channels: tuple[int, ...] = ()  # widths from input to output; (): the architecture's own at image_size
    dtype: jnp.dtype = jnp.float32  # compute type; parameters and results are float32
    axis_name: str | None = None  # the mapped axis of the devices that share a batch

    WIDTHS: ClassVar = {}  # square_size -> the architecture's own `channels`; its keys are the sizes that work
    stages = False  # whether a small map is doubled to the image, and back, so that the map may be a rectangle
    body = ""  # the submodule whose entries are the layers; "": the net itself

    @staticmethod
    def normalise_params(params: dict) -> dict:
        """Returns the parameters as they are to be stored after an optimizer step; here, as they are."""
        return params

    def default_widths(self) -> tuple[int, ...]:
        """Returns the architecture's own `channels` at `square_size`, which is in `WIDTHS`."""
        return self.WIDTHS[self.square_size]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return (*height_width(self.image_size), self.image_channels)

    @property
    def base(self) -> tuple[int, int]:
        """Height and width of the map that the stages begin from, 4x4 for the squares in `WIDTHS`."""
        return doubled_map(self.image_size, self.WIDTHS)[1]

    @property
    def square_size(self) -> int | None:
        """The size of square images; for others, that of those which begin from 4x4 and have as many stages."""
        if self.stages:
            found = doubled_map(self.image_size, self.WIDTHS)
            return found[0] if found else None
        return self.image_size if isinstance(self.image_size, int) else None

    @property
    def widths(self) -> tuple[int, ...]:
        """Returns `channels`, or the architecture's own where that is empty.

        Raises:
          ValueError: the architecture does not work at `image_size`, or `channels` are too many, too few or no
            positive integers.
        """
        if self.square_size not in self.WIDTHS:
            *_, architecture = type(self).__module__.split(".")
            listed = squares_in_words(self.WIDTHS, self.stages)
            raise ValueError(f"image_size={self.image_size}: {architecture} works at {listed}")
        default, given = self.default_widths(), tuple(self.channels)
        if not all(type(width) is int and width > 0 for width in given):
            raise ValueError(f"channels={given}: widths are whole numbers from 1 on, such as {default}")
        if given and len(given) != len(default):
            right = f"{size_in_words(self.image_size)} pixels take {len(default)} widths, such as {default}"
            raise ValueError(f"channels={given}: {right}")
        return given or default


class BaseGenerator(_Net):
    """The base of every generator: its common fields and what an architecture declares of itself.

    Attributes:
      latent_layers: a regular expression for the names of the layers that z enters, or w in a net with styles; they
        must be affine. None: not known, so that there are no semantic directions.
      mapping_body: the name of the submodule that maps z to styles; "": there is none.
    """

    latent_layers = None
    mapping_body = ""


def unit(x: jax.Array) -> jax.Array:
    """Returns x over its norm on the last axis; below a norm of 1e-6, over 1e-6."""
    return x * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-12))


class BaseDiscriminator(_Net):
    """The base of every discriminator: its common fields, and the endings that make logits of features.

    An architecture ends with `return self.head(features, ...)` or, where its last layer is another than a dense one,
    with one of the two methods that `head` is made of. All of them work in float32 and return `(logits, outputs)`.
    A logit is <w, h> + b for features h. With classes w is their projection w + e_y (Miyato & Koyama 2018), and
    `conditioning` may ask more of h: "ac" for an auxiliary classifier (Odena et al. 2017) and "d2dce" for an
    embedding on the unit sphere (ReACGAN, Kang et al. 2021), both instead of the projection, and beside it
    "multi_hinge" for a classifier (Kavalerov et al. 2021) and "adc" for one that tells fakes of a class from reals of
    it, too (ADC-GAN, Hou et al. 2022, who have no projection). `outputs` holds, where there are such,

      features [B, F]: h, always;
      direction [B]: with `san`, <omega, h>;
      classes [B, K], with "adc" [B, 2 K]: the classifier's logits, reals of each class and then fakes of each;
      embedding, proxy [B, embed_dim]: that of the image and that of its class, both of norm 1.

    With `san` the logit is <omega, h> + b, omega = w / |w| (Takida et al. 2024), w that of each class by itself.
    The logit has gradients by h and b only, the output `direction` by omega only.

    Attributes:
      conditionings: the values of `conditioning` that the architecture has.
      batch_dependent: whether a logit depends on the rest of its batch, as with batch norm, so that reals and fakes
        must be passed separately. True, which is always right, unless an architecture says otherwise.

    Raises:
      ValueError: when made with classes and a conditioning that the architecture lacks.
    """

    conditioning: str = "projection"
    embed_dim: int = bounded(512, 1)  # width of the embedding for "d2dce"
    san: bool = False  # the last layer has norm 1 and learns its direction by a loss of its own

    conditionings = ("projection", "ac", "multi_hinge", "adc", "d2dce")
    batch_dependent = True

    def __post_init__(self):
        super().__post_init__()
        if self.num_classes and self.conditioning not in self.conditionings:
            *_, architecture = type(self).__module__.split(".")
            choices = ", ".join(self.conditionings)
            raise ValueError(f"conditioning={self.conditioning!r}: {architecture} has {choices}")

    def head(
        self, features: jax.Array, labels: jax.Array | None, kernel_init, table_init=None, wrap: Callable | None = None
    ) -> tuple[jax.Array, dict]:
        """Returns the logits of a dense layer "logit", and all that `conditioning` asks of the features.

        Args:
          features: [B, F], float32.
          labels: [B]; None without classes.
          kernel_init, table_init: initialisers of the dense layers and of the class tables; None: the same one.
          wrap: what each layer is wrapped in, such as `spectral_norm`.
        """
        table_init, wrap = table_init or kernel_init, wrap or (lambda layer: layer)
        conditioning = self.conditioning if self.num_classes else None
        vectors, outputs = None, {}
        if conditioning == "d2dce":
            # No bias and no wrapping: the scale of either vector does not matter, so nothing needs to bound it.
            embed = nn.Dense(self.embed_dim, use_bias=False, kernel_init=kernel_init, name="embedding")
            proxies = nn.Embed(self.num_classes, self.embed_dim, embedding_init=table_init, name="proxies")
            outputs |= {"embedding": unit(embed(features)), "proxy": unit(proxies(labels))}
        if conditioning in ("ac", "multi_hinge", "adc"):
            told_apart = self.num_classes * (2 if conditioning == "adc" else 1)
            classifier = nn.Dense(told_apart, kernel_init=kernel_init, name="classifier")
            outputs["classes"] = wrap(classifier)(features)
        if conditioning in ("projection", "multi_hinge", "adc"):
            table = nn.Embed(self.num_classes, features.shape[-1], embedding_init=table_init, name="classes")
            vectors = (table if self.san else wrap(table))(labels)
        layer = nn.Dense(1, kernel_init=kernel_init, name="logit")
        logits, last = self.logits_from_layer(features, layer, vectors, wrap)
        return logits, outputs | last

    def logits_from_layer(
        self, features: jax.Array, layer: nn.Module, vectors: jax.Array | None = None, wrap: Callable | None = None
    ) -> tuple[jax.Array, dict]:
        """Returns the logits <w + vectors, features> + b, w and b being those of `layer`, and the outputs.

        Args:
          features: [B, F].
          layer: a dense one with one output, its parameters named "kernel" and, if any, "bias".
          vectors: [B, F], those of the classes; None: none.
          wrap: what `layer` is wrapped in; not with `san`, where only the direction of w + vectors counts.
        """
        if self.san:
            w, bias = _dense_weights(layer, features)
            return self.logits_from_weights(features, w if vectors is None else w + vectors, bias)
        logits = (wrap(layer) if wrap else layer)(features)[:, 0]
        if vectors is not None:
            logits = logits + jnp.sum(vectors * features, axis=-1)
        return logits, {"features": features}

    def logits_from_weights(self, features: jax.Array, w: jax.Array, bias=0.0) -> tuple[jax.Array, dict]:
        """Returns the logits <w, features> + bias of features [B, F] and w [F] or [B, F], and the outputs."""
        outputs = {"features": features}
        if self.san:
            omega = unit(w)
            outputs["direction"] = jnp.sum(omega * lax.stop_gradient(features), axis=-1)
            w = lax.stop_gradient(omega)
        return jnp.sum(w * features, axis=-1) + bias, outputs


def _dense_weights(layer: nn.Module, x: jax.Array) -> tuple[jax.Array, jax.Array | float]:
    """Returns the stored kernel [F] of a dense layer with one output, and its bias; 0.0 where it has none."""
    layer(x)  # Flax makes a layer's parameters when it is called; nothing is computed, as the result is not used.
    params = layer.variables["params"]
    return params["kernel"][:, 0], params.get("bias", 0.0)


# The fields that every architecture has, so that none of them is a setting of one architecture.
COMMON_FIELDS = frozenset(f.name for base in (BaseGenerator, BaseDiscriminator) for f in dataclasses.fields(base))


def broadcast_like(values: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `values` in the shape and type of x, cast last, so that their gradients sum over pixels in float32."""
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jnp.broadcast_to(wide, x.shape).astype(x.dtype)


class Conv(nn.Module):
    """Convolves [B, H, W, C] to [B, H', W', features]; names and initial values are those of flax's Conv."""

    features: int
    kernel_size: tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: str | int | tuple = "SAME"
    feature_group_count: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32
    precision: lax.PrecisionLike = None
    convolve: Callable = ops.conv

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1] // self.feature_group_count, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        options = dict(stride=self.strides, padding=self.padding, groups=self.feature_group_count)
        x = self.convolve(x.astype(self.dtype), kernel, precision=self.precision, **options)
        if not self.use_bias:
            return x
        return x + broadcast_like(self.param("bias", nn.initializers.zeros_init(), (self.features,)), x)


class ConvTranspose(nn.Module):
    """Multiplies the size by `stride` in a transposed convolution: kernel k, padding (k - stride) / 2 a side."""

    features: int
    kernel_size: int
    stride: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel = (a.astype(self.dtype) for a in (x, kernel))
        padding = (self.kernel_size - self.stride) // 2
        x = ops.conv_transpose(x, kernel, stride=self.stride, padding=padding)
        return x + broadcast_like(bias, x)


class BatchNorm(nn.Module):
    """Applies batch norm over all devices of `axis_name`; with classes, each class has a gain and a bias.

    Those are 1 + gain[y] and bias[y]; both tables start at zero (de Vries et al. 2017) or with `table_init`.
    """

    num_classes: int = 0
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    epsilon: float = 1e-5  # added to the variance
    table_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None, train: bool) -> jax.Array:
        plain = self.num_classes == 0
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=self.epsilon,
            use_scale=plain,
            use_bias=plain,
            axis_name=self.axis_name,
            dtype=self.dtype,
            name="norm",
        )(x)
        if plain:
            return x
        tables = [
            nn.Embed(self.num_classes, x.shape[-1], embedding_init=self.table_init, name=name)
            for name in ("gain", "bias")
        ]
        gain, bias = (t(labels).reshape(-1, *[1] * (x.ndim - 2), x.shape[-1]) for t in tables)
        return x * broadcast_like(1.0 + gain, x) + broadcast_like(bias, x)


def dropout(x: jax.Array, rate: float, keys: jax.Array) -> jax.Array:
    """Zeroes a fraction `rate` of each example's activations and rescales the rest; `keys` [B] are one an example."""
    keep = rng.uniform(keys, x.shape[1:]) >= rate
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def upsample(x: jax.Array) -> jax.Array:
    """Doubles the height and width of x by repeating pixels."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x: jax.Array) -> jax.Array:
    """Halves the height and width of x by the mean of 2x2 blocks."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def _sum_of_shifts(kernel: jax.Array) -> jax.Array:
    """Returns the sum of a kernel [3, 3, I, O] at 2x2 positions, [4, 4, I, O]."""
    wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    shifts = ((0, 1), (1, 0))
    return sum(jnp.pad(wide, (rows, columns, (0, 0), (0, 0))) for rows in shifts for columns in shifts)


# The next two are for `Conv(convolve=...)`. A resampling and a 3x3 convolution are together a single 4x4 one of
# stride 2, with 16 products instead of 36 and the large image on one side only. They set stride, padding and groups.


def upsample_conv(x: jax.Array, kernel: jax.Array, precision=None, **_) -> jax.Array:
    """Returns the convolution of `upsample(x)` with a kernel [3, 3, I, O]."""
    kernel = jnp.flip(_sum_of_shifts(kernel), (0, 1)).astype(kernel.dtype)
    return ops.conv_transpose(x, kernel, stride=2, padding=1, precision=precision)


def conv_downsample(x: jax.Array, kernel: jax.Array, precision=None, **_) -> jax.Array:
    """Returns `downsample` of the convolution of x with a kernel [3, 3, I, O]."""
    return ops.conv(x, (_sum_of_shifts(kernel) / 4).astype(kernel.dtype), stride=2, padding=1, precision=precision)


# A kernel [..., in, out] is a matrix W of `out` columns here: W^T W = I, or W W^T = I where W is wider than tall
# (Saxe et al. 2014).
orthogonal = nn.initializers.orthogonal()


def spectral_norm(layer: nn.Module, train: bool):
    """Wraps a layer: each kernel or table, as a matrix [rest, out], is divided by its largest singular value.

    Call this in a compact method, on a layer with a name. Each call makes one power iteration, which is kept with
    `train`; the gradient flows through sigma = v W u (Miyato et al. 2018, algorithm 1). Flax adds its epsilon 1e-12 to
    squared norms, which has the size of the 1e-6 that PyTorch users add to norms.
    """
    return functools.partial(nn.SpectralNorm(layer, name=f"sn_{layer.name}"), update_stats=train)
