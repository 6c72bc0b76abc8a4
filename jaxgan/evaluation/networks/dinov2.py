"""DINOv2's vision transformer (Oquab et al. 2023), whose class token FD-DINOv2 compares (Stein et al. 2023).

The protocol is that of dgm-eval, the code of the second paper, with its defaults: images are resized to 224x224 as PIL
resizes 8-bit images (bicubic, low-passed when shrinking), standardised with ImageNet's mean and standard deviation, and
described by the class token after the last norm of ViT-L/14, 1,024 numbers. The network is float32 throughout, whatever
the device.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgan.core import torch_file
from jaxgan.evaluation.networks import weights
from jaxgan.evaluation.networks.network import FeatureNetwork

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
SHA256 = "d5383ea8f4877b24"  # its first digits; the file has 1,217,586,395 bytes
SIZES = {(384, 12): "vits14", (768, 12): "vitb14", (1024, 24): "vitl14"}  # (width, depth) of the published networks
HEAD_WIDTH = 64  # in all of them, which is why a file need not say how many heads it has
IMAGE_SIZE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet's training images in 0..1, per channel
STD = np.array([0.229, 0.224, 0.225], np.float32)
PRECISION_BITS = 22  # PIL resizes 8-bit images with fixed-point weights


class LayerScale(nn.Module):
    """Multiplies each channel by a learned factor (Touvron et al. 2021)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.param("gamma", nn.initializers.ones_init(), x.shape[-1:])


class Attention(nn.Module):
    """Is multi-head self-attention of tokens [B, T, C]; queries, keys and values come from one dense layer."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        qkv = nn.Dense(3 * x.shape[-1], name="qkv")(x).reshape(*x.shape[:2], 3, self.heads, -1)
        x = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0)).reshape(x.shape)
        return nn.Dense(x.shape[-1], name="proj")(x)


class MLP(nn.Module):
    """Is a dense layer to four times the width, exact GELU, and a dense layer back."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.gelu(nn.Dense(4 * x.shape[-1], name="fc1")(x), approximate=False)
        return nn.Dense(x.shape[-1], name="fc2")(h)


class Block(nn.Module):
    """Is a pre-norm transformer layer: attention, then MLP, each added to its input [B, T, C]."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:  # as `nn.scan` wants it
        x = x + LayerScale(name="ls1")(Attention(self.heads, name="attn")(_norm("norm1")(x)))
        return x + LayerScale(name="ls2")(MLP(name="mlp")(_norm("norm2")(x))), None


class DINOv2(nn.Module):
    """Maps standardised images [B, H, W, 3] to the class token [B, width] of a ViT/14, ViT-L by default.

    H and W are multiples of 14. The positional embeddings are a square of `grid` rows, for images of 14 * grid pixels;
    for other sizes they are interpolated. Modules have the names of the official weight file, with the parameters of
    all blocks stacked, so that one block is compiled instead of 24.
    """

    width: int = 1024
    depth: int = 24
    grid: int = 37

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        if images.shape[1] % 14 or images.shape[2] % 14:
            raise ValueError(f"height and width must be multiples of 14, not {images.shape[1]}x{images.shape[2]}")
        init = nn.initializers.normal(0.02)
        patches = nn.Conv(self.width, (14, 14), strides=14, padding="VALID", name="patch_embed.proj")(images)
        batch, *shape, _ = patches.shape
        cls_token = self.param("cls_token", init, (1, 1, self.width))
        pos_embed = self.param("pos_embed", init, (1, 1 + self.grid**2, self.width))
        x = jnp.concatenate([jnp.tile(cls_token, (batch, 1, 1)), patches.reshape(batch, -1, self.width)], axis=1)
        x = x + _interpolate(pos_embed, self.grid, *shape)
        blocks = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth)
        x, _ = blocks(self.width // HEAD_WIDTH, name="blocks")(x, None)
        return _norm("norm")(x[:, 0])


def load(file: str | None = None) -> FeatureNetwork:
    """Returns ViT-L/14, downloaded on first use, or the network of any size in an official weight file.

    It maps uint8 [B, H, W, 3] to {"pool": float32 [B, width]}.

    Raises:
      ValueError: the file does not hold a DINOv2 with 14x14 patches, the plain MLP and no registers.
      OSError: there is no such file, or none in the cache and no network.
    """
    path = weights.fetch("dinov2_vitl14_pretrain.pth", URL, SHA256, file)
    net, variables = from_arrays(torch_file.load(path), path)
    return _network(net, variables, weights.sha256(path))


def abstract() -> FeatureNetwork:
    """Returns ViT-L/14 with the shapes of its variables, for arithmetic; nothing is read."""
    return _network(net := DINOv2(), _shapes(net), "")


def _shapes(net: DINOv2) -> dict:
    return jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 14, 14, 3), jnp.float32))


def _network(net: DINOv2, variables: dict, sha256: str) -> FeatureNetwork:
    def apply(variables, images):
        pixels = preprocess(images)
        with jax.default_matmul_precision("highest"):  # GPUs and TPUs would round what they multiply to 10 or 7 bits
            return {"pool": net.apply(variables, pixels)}

    return FeatureNetwork(
        name="dinov2_" + SIZES.get((net.width, net.depth), f"{net.depth}x{net.width}"),
        apply=apply,
        variables=variables,
        weights=sha256,
        resize=f"bicubic to {IMAGE_SIZE} as PIL resizes 8-bit images",
    )


def from_arrays(arrays: dict[str, np.ndarray], source: object) -> tuple[DINOv2, dict]:
    """Returns the network that the arrays of an official weight file are of, and its variables.

    Raises:
      ValueError: arrays are missing, unknown or of a wrong shape; the message begins with `source`, the file's name.
    """
    arrays = {str(name): np.asarray(array) for name, array in arrays.items() if name != "mask_token"}  # for training
    tokens, positions = (np.asarray(arrays.get(name)) for name in ("cls_token", "pos_embed"))
    depth = len({name.split(".")[1] for name in arrays if name.startswith("blocks.")})
    if tokens.ndim != 3 or tokens.shape[-1] % HEAD_WIDTH or positions.ndim != 3 or not depth:
        raise ValueError(
            f"{source} does not hold a DINOv2 network: it needs cls_token [1, 1, a multiple of {HEAD_WIDTH}],"
            " pos_embed [1, 1 + a square, the same] and blocks"
        )
    net = DINOv2(tokens.shape[-1], depth, grid=math.isqrt(positions.shape[1] - 1))
    params = traverse_util.flatten_dict(_shapes(net)["params"])
    names = {path: _file_names(path, depth) for path in params}
    # A block's array has the stacked parameter's shape without its first axis.
    expected = {name: params[path].shape[path[0] == "blocks" :] for path in params for name in names[path]}
    found = {name: _from_torch(array) for name, array in arrays.items()}
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{name} is unknown" for name in found if name not in expected]
    faults += [
        f"{name} is {list(arrays[name].shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(
            f"{source} does not hold a DINOv2 network without registers, here of width {net.width}, depth {depth}"
            f" and {net.grid}x{net.grid} positions: {'; '.join(faults[:3])}{more}"
        )
    for path, leaf in params.items():
        stack = np.stack([found[name] for name in names[path]])
        params[path] = jnp.asarray(stack.reshape(leaf.shape), jnp.float32)
    return net, {"params": traverse_util.unflatten_dict(params)}


def preprocess(images: jax.Array, size: int = IMAGE_SIZE) -> jax.Array:
    """Returns images uint8 [B, H, W, 3] resized to `size` pixels and standardised for the network, float32."""
    return (resize(images, size).astype(jnp.float32) / 255.0 - MEAN) / STD


def resize(images: jax.Array, size: int) -> jax.Array:
    """Resizes uint8 [B, H, W, C] to [B, size, size, C], bit for bit as PIL's bicubic resize does.

    PIL filters along the rows, rounds to 8 bits, then filters along the columns and rounds again, with weights in
    fixed point; integer arithmetic gives the same result on every device. (Since Pillow 13 the columns come first in
    images that shrink more in height than in width; here the rows always do, as when dgm-eval was published.)
    """
    if images.dtype != jnp.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [B, H, W, C], not {images.dtype} {list(images.shape)}")
    rows, columns = (_pil_weights(n, size) for n in images.shape[1:3])
    images = _to_8_bits(jnp.einsum("xw,bhwc->bhxc", columns, images.astype(jnp.int32)))
    return _to_8_bits(jnp.einsum("yh,bhxc->byxc", rows, images)).astype(jnp.uint8)


def _to_8_bits(x: jax.Array) -> jax.Array:
    """Rounds fixed-point numbers to integers in 0..255."""
    return jnp.clip((x + 2 ** (PRECISION_BITS - 1)) >> PRECISION_BITS, 0, 255)


def _pil_weights(n: int, size: int) -> np.ndarray:
    """Returns PIL's bicubic weights (a = -0.5) of `n` pixels in each of `size`, int32 [size, n] in fixed point.

    Shrinking widens the kernel by its factor; at the border it is cut off and the rest weighs more.
    """
    scale = n / size
    distance = (np.arange(n) + 0.5) - (np.arange(size)[:, None] + 0.5) * scale
    kernel = _cubic(distance / max(scale, 1.0), a=-0.5)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.trunc(kernel * 2**PRECISION_BITS + np.copysign(0.5, kernel)).astype(np.int32)


def _interpolate(pos_embed: jax.Array, grid: int, height: int, width: int) -> jax.Array:
    """Interpolates positional embeddings [1, 1 + grid * grid, C] to height x width patches; the class token keeps its.

    The interpolation is PyTorch's bicubic one as the official code calls it: a = -0.75, never low-passed, and a grid
    cell of grid / (height + 0.1) rather than grid / height, an offset that once kept rounding from losing a row.
    """
    if grid == height == width:
        return pos_embed

    def weights(size):  # [size, grid]
        pixels = np.arange(-2, grid + 2)  # those beyond the border repeat it
        centre = (np.arange(size) + 0.5) * (grid / (size + 0.1)) - 0.5
        return (_cubic(centre[:, None] - pixels, a=-0.75) @ np.eye(grid)[pixels.clip(0, grid - 1)]).astype(np.float32)

    patches = pos_embed[0, 1:].reshape(grid, grid, -1)
    patches = jnp.einsum("yi,xj,ijc->yxc", weights(height), weights(width), patches)
    return jnp.concatenate([pos_embed[:, :1], patches.reshape(1, height * width, -1)], axis=1)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Returns the cubic convolution kernel at distances x in pixels (Keys 1981); `a` is its slope at 1."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, name=name)


def _file_names(path: tuple[str, ...], depth: int) -> list[str]:
    """Returns the names of a parameter in the official file: one, or one for each block."""
    *modules, leaf = path
    name = ".".join([*modules, {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)])
    return [name.replace("blocks", f"blocks.{i}") for i in range(depth)] if path[0] == "blocks" else [name]


def _from_torch(array: np.ndarray) -> np.ndarray:
    """Returns a weight of a dense layer or a convolution in Flax's order of axes; all others as they are."""
    return np.transpose(array, {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim, range(array.ndim)))
