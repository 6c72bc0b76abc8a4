"""The Inception network whose features FID, sFID and the Inception score compare.

It is Inception-v3 (Szegedy et al. 2015) as Google published it on 5 December 2015, in pytorch-fid's copy. Unlike later
Inceptions it has 1,008 classes, mean pools that leave the padding out, and a max pool in its last block. Here each
batch norm is folded into the convolution before it, and the 1x1 convolutions that a block begins with are one. A mean
pool before such a convolution comes after it, where there are fewer channels; the two commute.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import lax

from jaxgan.core import torch_file
from jaxgan.evaluation.networks import weights
from jaxgan.evaluation.networks.network import FeatureNetwork
from jaxgan.models.layers import Conv

NAME = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAME}"
SIZE = 299  # pixels
EPSILON = 0.001  # in the batch norms
CPU_BATCH = 4  # images at a time on a CPU, which stay in its caches


class Inception(nn.Module):
    """Maps images [B, 299, 299, 3] in [-1, 1] to "pool" [B, 2048], "spatial" [B, 2023] and "logits" [B, 1008].

    "spatial" is for sFID (Nash et al. 2021): the first 7 channels of TensorFlow's `mixed_6/conv`, which are those of
    Mixed_6d, as 17 * 17 * 7 numbers. "logits" leave the classifier's bias out, as the first code of the Inception
    Score does (Salimans et al. 2016). Modules have PyTorch's names; `a+b` holds the convolutions a and b side by side.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        x = _unit(x, "Conv2d_1a_3x3", 32, 3, 2, "VALID")  # 149 x 149
        x = _unit(x, "Conv2d_2a_3x3", 32, 3, padding="VALID")
        x = _unit(x, "Conv2d_2b_3x3", 64, 3)
        x = _max_pool(x, 2, 0)  # 73 x 73
        x = _unit(x, "Conv2d_3b_1x1", 80, 1)
        x = _unit(x, "Conv2d_4a_3x3", 192, 3, padding="VALID")
        x = _max_pool(x, 2, 0)  # 35 x 35
        x = BlockA(32, name="Mixed_5b")(x)
        x = BlockA(64, name="Mixed_5c")(x)
        x = BlockA(64, name="Mixed_5d")(x)
        x = BlockB(name="Mixed_6a")(x)  # 17 x 17
        x = BlockC(128, name="Mixed_6b")(x)
        x = BlockC(160, name="Mixed_6c")(x)
        x = BlockC(160, name="Mixed_6d")(x)
        spatial = x[..., :7].reshape(len(x), -1)
        x = BlockC(192, name="Mixed_6e")(x)
        x = BlockD(name="Mixed_7a")(x)  # 8 x 8
        x = BlockE(name="Mixed_7b")(x)
        x = BlockE(max_pool=True, name="Mixed_7c")(x)
        pool = jnp.mean(x, (1, 2))
        return {"pool": pool, "spatial": spatial, "logits": nn.Dense(1008, use_bias=False, name="fc")(pool)}


class BlockA(nn.Module):
    """Has four branches at 35x35: 1x1, 5x5, two 3x3, mean pool."""

    pool_features: int

    @nn.compact
    def __call__(self, x):
        a, b, c, pool = _enter(x, branch1x1=64, branch5x5_1=48, branch3x3dbl_1=64, branch_pool=self.pool_features)
        b = _unit(nn.relu(b), "branch5x5_2", 64, 5)
        c = _unit(nn.relu(c), "branch3x3dbl_2", 96, 3)
        c = _unit(c, "branch3x3dbl_3", 96, 3)
        return jnp.concatenate([nn.relu(a), b, c, nn.relu(_mean_pool(pool))], -1)


class BlockB(nn.Module):
    """Has three branches from 35x35 to 17x17: 3x3, two 3x3, max pool."""

    @nn.compact
    def __call__(self, x):
        a = _unit(x, "branch3x3", 384, 3, 2, "VALID")
        b = _unit(x, "branch3x3dbl_1", 64, 1)
        b = _unit(b, "branch3x3dbl_2", 96, 3)
        b = _unit(b, "branch3x3dbl_3", 96, 3, 2, "VALID")
        return jnp.concatenate([a, b, _max_pool(x, 2, 0)], -1)


class BlockC(nn.Module):
    """Has four branches at 17x17: 1x1, one 7x7, two 7x7, mean pool; a 7x7 is split into 1x7 and 7x1."""

    width: int

    @nn.compact
    def __call__(self, x):
        n = self.width
        a, b, c, pool = _enter(x, branch1x1=192, branch7x7_1=n, branch7x7dbl_1=n, branch_pool=192)
        b = _unit(nn.relu(b), "branch7x7_2", n, (1, 7))
        b = _unit(b, "branch7x7_3", 192, (7, 1))
        c = _unit(nn.relu(c), "branch7x7dbl_2", n, (7, 1))
        c = _unit(c, "branch7x7dbl_3", n, (1, 7))
        c = _unit(c, "branch7x7dbl_4", n, (7, 1))
        c = _unit(c, "branch7x7dbl_5", 192, (1, 7))
        return jnp.concatenate([nn.relu(a), b, c, nn.relu(_mean_pool(pool))], -1)


class BlockD(nn.Module):
    """Has three branches from 17x17 to 8x8: 3x3, 7x7 and 3x3, max pool."""

    @nn.compact
    def __call__(self, x):
        a, b = _enter(x, branch3x3_1=192, branch7x7x3_1=192)
        a = _unit(nn.relu(a), "branch3x3_2", 320, 3, 2, "VALID")
        b = _unit(nn.relu(b), "branch7x7x3_2", 192, (1, 7))
        b = _unit(b, "branch7x7x3_3", 192, (7, 1))
        b = _unit(b, "branch7x7x3_4", 192, 3, 2, "VALID")
        return jnp.concatenate([a, b, _max_pool(x, 2, 0)], -1)


class BlockE(nn.Module):
    """Has four branches at 8x8: 1x1, one 3x3, two 3x3, mean or max pool; the last 3x3 is 1x3 and 3x1 side by side."""

    max_pool: bool = False

    @nn.compact
    def __call__(self, x):
        entries = dict(branch1x1=320, branch3x3_1=384, branch3x3dbl_1=448)
        if self.max_pool:
            a, b, c = _enter(x, **entries)
            pool = _unit(_max_pool(x, 1, 1), "branch_pool", 192, 1)
        else:
            a, b, c, pool = _enter(x, **entries, branch_pool=192)
            pool = nn.relu(_mean_pool(pool))
        b = nn.relu(b)
        b = [_unit(b, "branch3x3_2a", 384, (1, 3)), _unit(b, "branch3x3_2b", 384, (3, 1))]
        c = _unit(nn.relu(c), "branch3x3dbl_2", 384, 3)
        c = [_unit(c, "branch3x3dbl_3a", 384, (1, 3)), _unit(c, "branch3x3dbl_3b", 384, (3, 1))]
        return jnp.concatenate([nn.relu(a), *b, *c, pool], -1)


def _unit(x, name, features, kernel, stride=1, padding="SAME"):
    """Returns ReLU of a convolution."""
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.relu(Conv(features, kernel, stride, padding, name=name)(x))


def _enter(x, **widths):
    """Returns the 1x1 convolutions with these names and widths, before ReLU."""
    x = Conv(sum(widths.values()), (1, 1), name="+".join(widths))(x)
    return jnp.split(x, np.cumsum([*widths.values()])[:-1], -1)


def _neighbours(x, axis, stride, padding):
    """Returns x[stride * i + t - padding] along an axis for t = 0, 1, 2, with zeros beyond the ends."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(padding * (a == axis),) * 2 + (0,) for a in range(x.ndim)])
    n = (x.shape[axis] - 3) // stride + 1
    return [lax.slice_in_dim(x, t, t + (n - 1) * stride + 1, stride, axis) for t in range(3)]


def _max_pool(x, stride, padding):
    """Returns the maximum over 3x3 of x >= 0, as it is after ReLU; the padding is zeros."""
    for axis in (1, 2):
        x = functools.reduce(jnp.maximum, _neighbours(x, axis, stride, padding))
    return x


def _mean_pool(x):
    """Returns the mean over 3x3 at stride 1, over those of the nine that are inside."""
    for axis in (1, 2):
        count = np.full(x.shape[axis], 3.0, np.float32)
        count[[0, -1]] = 2.0
        x = sum(_neighbours(x, axis, 1, 1)) / np.expand_dims(count, [a for a in range(x.ndim) if a != axis])
    return x


def resize(images: jax.Array) -> jax.Array:
    """Resizes images uint8 [B, H, W, C] to float32 [B, 299, 299, C], still 0..255, bilinearly as TensorFlow 1 did.

    Pixel i lies at i * H / 299 of the input, rather than at (i + 1/2) * H / 299 - 1/2 as centres do, and shrinking does
    not low-pass. FID depends on both (Parmar et al. 2022).
    """
    if images.dtype != jnp.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [B, H, W, C], not {images.dtype} {list(images.shape)}")
    rows, columns = (_bilinear(n) for n in images.shape[1:3])
    with jax.default_matmul_precision("highest"):
        images = jnp.einsum("xw,bhwc->bhxc", columns, images.astype(jnp.float32))
        return jnp.einsum("yh,bhxc->byxc", rows, images)


def _bilinear(n):
    """Returns the weights [299, n] of n pixels in each of 299."""
    position = np.arange(SIZE, dtype=np.float32) * np.float32(n / SIZE)
    low = position.astype(np.int32)
    high = np.minimum(low + 1, n - 1)
    fraction = position - low
    out = np.zeros((SIZE, n), np.float32)
    np.add.at(out, (np.arange(SIZE), low), 1 - fraction)
    np.add.at(out, (np.arange(SIZE), high), fraction)
    return out


def load(file: str | None = None) -> FeatureNetwork:
    """Returns the network with the published weights, from a file or from the cache, into which they are downloaded.

    It maps uint8 [B, H, W, 3] of any size to "pool" (pool3), "spatial" and "logits", see `Inception`.

    Raises:
      ValueError: the file does not hold this network.
      OSError: there is no such file, or none in the cache and no network.
    """
    path = weights.fetch(NAME, URL, "6726825d", file)
    return abstract()._replace(variables=from_arrays(torch_file.load(path), path), weights=weights.sha256(path))


def abstract() -> FeatureNetwork:
    """Returns the network with the shapes of its variables, for arithmetic; nothing is read."""
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    return FeatureNetwork(
        name="inception",
        apply=apply,
        variables=jax.eval_shape(Inception().init, jax.random.key(0), image),
        weights="",
        resize="299x299 bilinear, TF1",
        cpu_batch=CPU_BATCH,
    )


def apply(variables: dict, images: jax.Array) -> dict[str, jax.Array]:
    """Returns the features of images uint8 [B, H, W, 3], float32; see `Inception`."""
    return describe(variables, resize(images))


def describe(variables: dict, images: jax.Array) -> dict[str, jax.Array]:
    """Returns the features of resized images, float32 [B, 299, 299, 3] in 0..255."""
    with jax.default_matmul_precision("highest"):  # GPUs and TPUs would round what they multiply to 10 or 7 bits
        return Inception().apply(variables, (images - 128.0) / 128.0)


def from_arrays(arrays: dict[str, np.ndarray], source: object) -> dict:
    """Returns the variables of `Inception` from a state dict with PyTorch's names.

    Raises:
      ValueError: an array is missing or has a wrong shape; the message begins with `source`, the name of the file.
    """

    def unit(name):  # (convolution - mean) * scale + bias, with the kernel [O, I, kh, kw]
        kernel = arrays[f"{name}.conv.weight"]
        gain, bias, mean, var = (arrays[f"{name}.bn.{n}"] for n in ("weight", "bias", "running_mean", "running_var"))
        scale = gain / np.sqrt(var + EPSILON)
        return {"kernel": kernel.transpose(2, 3, 1, 0) * scale, "bias": bias - mean * scale}

    params = traverse_util.flatten_dict(abstract().variables["params"])
    try:
        for (*module, names, leaf), shape in params.items():
            if names == "fc":
                value = arrays["fc.weight"].T
            else:
                value = np.concatenate([unit(".".join((*module, name)))[leaf] for name in names.split("+")], -1)
            if value.shape != shape.shape:
                raise ValueError(
                    f"{'.'.join((*module, names))} has {list(value.shape)} for a {leaf} {list(shape.shape)}"
                )
            params[*module, names, leaf] = jnp.asarray(value, jnp.float32)
    except KeyError as error:
        raise ValueError(f"{source} does not hold FID's Inception: {error.args[0]} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{source} does not hold FID's Inception: {error}") from error
    return {"params": traverse_util.unflatten_dict(params)}
