"""Layers that several architectures share: NHWC images, compute in `dtype`, parameters in float32."""

import functools
import operator
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.core import rng
from jaxgan.ops import conv as ops


def broadcast_like(values: jax.Array, x: jax.Array) -> jax.Array:
    """`values` in the shape and type of x, the type last: their gradients, sums over pixels, are made in float32."""
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jnp.broadcast_to(wide, x.shape).astype(x.dtype)


class Conv(nn.Module):
    """Convolution with bias, [B, H, W, C] to [B, H', W', features]; parameters are named and drawn as flax's."""

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


class Net(nn.Module):
    """The fields that every generator and discriminator has."""

    image_size: int = 32
    image_channels: int = 3
    num_classes: int = 0  # 0: unconditional
    channels: tuple[int, ...] = ()  # widths from input to output; (): the architecture's own at image_size
    dtype: jnp.dtype = jnp.float32  # of the computations; parameters and results are float32
    axis_name: str | None = None  # of the devices that share a batch


ANSWERS = "intermediates"  # the collection of what a discriminator says beside its logits


def unit(x: jax.Array) -> jax.Array:
    """x over its norm on the last axis; below a norm of 1e-6, over 1e-6."""
    return x * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-12))


class Critic(Net):
    """The fields that every discriminator has, and how it ends: features h [B, F] to logits [B], all in float32.

    A logit is <w, h> + b. With classes w is their projection w + e_y (Miyato & Koyama 2018), and further answers may be
    asked of h by `conditioning`: "ac" an auxiliary classifier (Odena et al. 2017) and "d2dce" an embedding on the unit
    sphere (ReACGAN, Kang et al. 2021), both instead of the projection, "multi_hinge" a classifier beside it (Kavalerov
    et al. 2021). What is said beside the logits goes into `answers` of the collection `ANSWERS`, if that is mutable:

      features [B, F]
      direction [B]: with `san`, <omega, h>
      classes [B, K]: the classifier's logits
      embedding, proxy [B, embed_dim]: of the image and of its class, both of norm 1

    With `san` the logit is <omega, h> + b, omega = w / |w| (Takida et al. 2024), w of each class by itself.
    Gradients of the logit reach h and b only, those of the answer `direction` omega only.
    """

    conditioning: str = "projection"
    embed_dim: int = 512
    san: bool = False
    conditionings = ("projection", "ac", "multi_hinge", "d2dce")  # that the architecture has

    def answer(self, name: str, value: jax.Array) -> None:
        """One entry holds all answers, as a name in a collection must not be that of a layer."""
        self.sow(ANSWERS, "answers", {name: value}, init_fn=dict, reduce_fn=operator.or_)

    def product(self, features: jax.Array, w: jax.Array, bias=0.0) -> jax.Array:
        """Logits <w, features> + bias from w [F] or [B, F]."""
        self.answer("features", features)
        if self.san:
            omega = unit(w)
            self.answer("direction", jnp.sum(omega * lax.stop_gradient(features), axis=-1))
            w = lax.stop_gradient(omega)
        return jnp.sum(w * features, axis=-1) + bias

    def dense(self, features, layer: nn.Module, vectors=None, normalised: Callable = lambda layer: layer) -> jax.Array:
        """Logits <w + vectors, features> + b, where w and b are those of `layer`, dense with one output.

        `normalised` is what a layer is wrapped in; not with `san`, where only the direction of w + vectors counts.
        """
        if self.san:
            layer(features)  # makes the parameters
            params = layer.variables["params"]
            w = params["kernel"][:, 0]
            return self.product(features, w if vectors is None else w + vectors, params.get("bias", 0.0))
        self.answer("features", features)
        logits = normalised(layer)(features)[:, 0]
        return logits if vectors is None else logits + jnp.sum(vectors * features, axis=-1)

    def head(self, features, labels, kernel_init, table_init=None, normalised: Callable = lambda layer: layer):
        """Logits, and the answers about classes, by layers of these initialisers, each wrapped by `normalised`."""
        table_init = table_init or kernel_init
        if self.num_classes and self.conditioning == "d2dce":
            # Without a bias: the scale of either does not matter, so nothing bounds it.
            embed = nn.Dense(self.embed_dim, use_bias=False, kernel_init=kernel_init, name="embedding")
            proxies = nn.Embed(self.num_classes, self.embed_dim, embedding_init=table_init, name="proxies")
            self.answer("embedding", unit(embed(features)))
            self.answer("proxy", unit(proxies(labels)))
        elif self.num_classes and self.conditioning != "projection":
            classifier = nn.Dense(self.num_classes, kernel_init=kernel_init, name="classifier")
            self.answer("classes", normalised(classifier)(features))
        vectors = None
        if self.num_classes and self.conditioning in ("projection", "multi_hinge"):
            classes = nn.Embed(self.num_classes, features.shape[-1], embedding_init=table_init, name="classes")
            vectors = (classes if self.san else normalised(classes))(labels)
        return self.dense(features, nn.Dense(1, kernel_init=kernel_init, name="logit"), vectors, normalised)


class ConvTranspose(nn.Module):
    """Transposed convolution that multiplies the size by `stride`: kernel k, padding (k - stride) / 2 a side."""

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
    """Batch norm over all devices of `axis_name`; with classes, a gain and a bias for each class.

    Conditional form: gain = 1 + table[y], both tables start at zero (de Vries et al. 2017) or with `table_init`.
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
    """Zero a share `rate` of each example's activations and rescale the rest; one key an example, [B]."""
    keep = rng.uniform(keys, x.shape[1:]) >= rate
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def upsample(x: jax.Array) -> jax.Array:
    """Nearest-neighbour enlargement by 2."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x: jax.Array) -> jax.Array:
    """Mean over 2x2 blocks."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def _spread(kernel: jax.Array) -> jax.Array:
    """The sum of a kernel [3, 3, I, O] at 2x2 positions, [4, 4, I, O]."""
    wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    shifts = ((0, 1), (1, 0))
    return sum(jnp.pad(wide, (rows, columns, (0, 0), (0, 0))) for rows in shifts for columns in shifts)


# For `Conv(convolve=...)`. What a resampling and a 3x3 convolution make together is one of 4x4, stride 2,
# with 16 products for 36 and the large image on one side only. Stride, padding and groups are theirs.


def upsample_conv(x: jax.Array, kernel: jax.Array, precision=None, **_) -> jax.Array:
    """The convolution of `upsample(x)` with a kernel [3, 3, I, O]."""
    kernel = jnp.flip(_spread(kernel), (0, 1)).astype(kernel.dtype)
    return ops.conv_transpose(x, kernel, stride=2, padding=1, precision=precision)


def conv_downsample(x: jax.Array, kernel: jax.Array, precision=None, **_) -> jax.Array:
    """`downsample` of the convolution of x with a kernel [3, 3, I, O]."""
    return ops.conv(x, (_spread(kernel) / 4).astype(kernel.dtype), stride=2, padding=1, precision=precision)


# [..., in, out] as a matrix of `out` columns: W^T W = I, or W W^T = I where it is wider than tall (Saxe et al. 2014).
orthogonal = nn.initializers.orthogonal()


def spectral_norm(layer: nn.Module, train: bool):
    """`layer` with each kernel or table, as a matrix [rest, out], divided by its largest singular value.

    To be called in a compact method, on a layer with a name. One power iteration a call, which `train` keeps; the
    gradient flows through sigma = v W u (Miyato et al. 2018, algorithm 1). Flax adds its epsilon 1e-12 to squared
    norms, so it has the size of PyTorch's usual 1e-6 on norms.
    """
    return functools.partial(nn.SpectralNorm(layer, name=f"sn_{layer.name}"), update_stats=train)


class SelfAttention(nn.Module):
    """x + sigma * attention(x): every pixel looks at all 2x2 max-pooled ones (Zhang et al. 2019, section 3).

    x is [B, H, W, C] with even H and W and C >= 8; queries and keys are C / 8 wide, values C / 2. All projections are
    1x1 convolutions without bias, and sigma starts at 0: the identity. The pooling and the width of the values are
    not the paper's but its code's, as in BigGAN; scores are not scaled.
    """

    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = orthogonal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        if c < 8 or h % 2 or w % 2:
            raise ValueError(f"self-attention on {h}x{w} maps of {c} channels: sizes must be even, channels 8 or more")

        def project(y, width, name):
            return Conv(width, (1, 1), use_bias=False, kernel_init=self.kernel_init, dtype=self.dtype, name=name)(y)

        def pool(y):
            return y.reshape(b, h // 2, 2, w // 2, 2, -1).max(axis=(2, 4)).reshape(b, h * w // 4, -1)

        queries = project(x, c // 8, "query").reshape(b, h * w, c // 8)
        keys, values = pool(project(x, c // 8, "key")), pool(project(x, c // 2, "value"))
        scores = jnp.einsum("bnc,bmc->bnm", queries, keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores).astype(self.dtype)  # [B, HW, HW / 4], rows sum to 1
        seen = jnp.einsum("bnm,bmc->bnc", weights, values).reshape(b, h, w, c // 2)
        sigma = self.param("sigma", nn.initializers.zeros_init(), ())
        return x + sigma.astype(x.dtype) * project(seen, c, "out")


def attention_block(size: int | None, image_size: int, ends: list[int]) -> int | None:
    """The block that self-attention follows: the first of those ending at `ends` pixels that ends at `size`.

    `size` None is half the image's size; 0 is no attention, and so is the answer None. ValueError for a size that
    no block ends at.
    """
    size = image_size // 2 if size is None else size
    if size and size not in ends:
        sizes = ", ".join(map(str, sorted({0, *ends})))
        raise ValueError(f"attention_size={size}: at {image_size} pixels choose one of {sizes}")
    return ends.index(size) if size else None
