"""Self-attention over the pixels of a map (Zhang et al. 2019), as SAGAN and BigGAN have it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.layers import Conv, orthogonal


class SelfAttention(nn.Module):
    """Returns x + sigma * attention(x): each pixel attends to all 2x2 max-pooled ones (Zhang et al. 2019, section 3).

    x is [B, H, W, C] with even H and W and C >= 8; queries and keys are C / 8 wide, values C / 2. All projections are
    1x1 convolutions without bias. As sigma starts at 0, the layer starts as the identity. The pooling and the width of
    the values are not in the paper but in its code, as in BigGAN; scores are not scaled.
    """

    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = orthogonal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        if c < 8 or h % 2 or w % 2:
            raise ValueError(f"channels={c}: attention takes 8 or more, and maps of even height and width, not {h}x{w}")

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
    """Returns the index of the block that self-attention follows, or None where there is no attention.

    Args:
      size: pixels of the maps to attend to; None: half of `image_size`; 0: no attention.
      ends: pixels at the end of each block; the first block that ends at `size` is it.

    Raises:
      ValueError: no block ends at `size`.
    """
    size = image_size // 2 if size is None else size
    if size and size not in ends:
        sizes = ", ".join(map(str, sorted({0, *ends})))
        raise ValueError(f"attention_size={size}: at {image_size} pixels choose one of {sizes}")
    return ends.index(size) if size else None
