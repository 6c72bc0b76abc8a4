"""Defines `conv` and `conv_transpose`, in the place of `lax.conv_general_dilated` and `lax.conv_transpose`.

On a TPU both are XLA's own convolution and nothing else: the compiled program has the `convolution` that
`lax.conv_general_dilated` would have put there, in its gradients of any order too. On an NVIDIA GPU the same is true
but for two kinds that are matrix products (`gpu.py`). Only before it is lowered (in
`jax.make_jaxpr`, say) does a convolution appear as one of three primitives, `conv`, `conv_input` and `conv_kernel`, in
the place of `conv_general_dilated`. On a CPU, where XLA is slow at what training needs, the same primitives are lowered
to matrix products; the results differ by rounding alone. Images are [B, H, W, C] and kernels [kh, kw, in, out].
"""

import jax.numpy as jnp
from jax import lax

from jaxgan.ops.conv.primitives import bind, conv_input_p, conv_p


def conv(x, kernel, *, stride=1, padding="SAME", groups=1, precision=None, impl="auto"):
    """Convolves images with a kernel, as `lax.conv_general_dilated` does: a cross-correlation, without a flip.

    Args:
      x: [B, H, W, C], of any float type.
      kernel: [kh, kw, C / groups, O], of the same type.
      stride: a positive int, or (sh, sw).
      padding: "SAME" (H' = ceil(H / stride)), "VALID", an int for all four sides, or ((top, bottom), (left, right)),
        where a negative number crops.
      groups: into how many groups C and O are split; the o-th group of outputs sees the o-th group of inputs alone.
      precision: as for `lax.conv_general_dilated`. The CPU's implementation ignores it: it never rounds its factors.
      impl: "auto" is what is fast on the platform; "fast" and "xla" insist on the implementation for CPUs, and on XLA's
        convolution.

    Returns:
      [B, H', W', O] with H' = (H + top + bottom - kh) // sh + 1, of the type of x. Sums are in float32 at least.

    Raises:
      ValueError: the shapes or types do not fit one another, or an option is none of those above.

    Example:
      y = conv(jnp.ones((8, 32, 32, 3)), jnp.ones((4, 4, 3, 64)), stride=2, padding=1)  # [8, 16, 16, 64]
    """
    stride = _pair(stride)
    if padding in ("SAME", "VALID"):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], stride, padding)
    padding = _pads(padding)
    _check(x, kernel, groups, kernel.shape[2] * groups, kernel.shape[3], impl)
    size = tuple((n + sum(p) - k) // s + 1 for n, p, k, s in zip(x.shape[1:], padding, kernel.shape, stride))
    if min(size) < 1:
        raise ValueError(f"padding={padding}: a kernel {kernel.shape} does not fit into x {x.shape}")
    return bind(conv_p, x, kernel, size, stride, padding, groups, precision, impl)


def conv_transpose(x, kernel, *, stride=1, padding="SAME", groups=1, precision=None, impl="auto"):
    """Returns the gradient of `conv` by its input: PyTorch's ConvTranspose2d.

    Sizes and pads of "SAME" and "VALID", and the result for a kernel flipped in both spatial axes, are those of
    `lax.conv_transpose`.

    Args:
      x: [B, H, W, C], of any float type.
      kernel: [kh, kw, C, O / groups], of the same type.
      stride: a positive int, or (sh, sw).
      padding: that of the convolution transposed. H' = (H - 1) * stride + kh - top - bottom for an int or pairs (kernel
        4, stride 2, padding 1 doubles the size), H * stride for "SAME", H * stride + max(kh - stride, 0) for "VALID".
      groups, precision, impl: as for `conv`.

    Returns:
      [B, H', W', O], of the type of x.

    Raises:
      ValueError: as for `conv`.

    Example:
      y = conv_transpose(jnp.ones((8, 4, 4, 256)), jnp.ones((4, 4, 256, 128)), stride=2, padding=1)  # [8, 8, 8, 128]
    """
    stride = _pair(stride)
    if padding in ("SAME", "VALID"):
        extra = [max(k - s, 0) for k, s in zip(kernel.shape, stride)]
        pads = tuple((e // 2, e - e // 2) if padding == "SAME" else (0, 0) for e in extra)
        size = tuple(n * s + e - sum(p) for n, s, e, p in zip(x.shape[1:], stride, extra, pads))
    else:
        pads = _pads(padding)
        size = tuple((n - 1) * s + k - sum(p) for n, s, k, p in zip(x.shape[1:], stride, kernel.shape, pads))
    _check(x, kernel, groups, kernel.shape[2], kernel.shape[3] * groups, impl)
    if min(size) < 1:
        raise ValueError(f"padding={padding} leaves nothing of x {x.shape} with a kernel {kernel.shape}")
    return bind(conv_input_p, x, jnp.swapaxes(kernel, 2, 3), size, stride, pads, groups, precision, impl)


def _pair(stride):
    pair = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if len(pair) != 2 or any(not isinstance(s, int) or s < 1 for s in pair):
        raise ValueError(f"stride={stride!r}: give a positive int or two")
    return pair


def _pads(padding):
    try:
        pads = ((padding,) * 2,) * 2 if isinstance(padding, int) else tuple((lo, hi) for lo, hi in padding)
    except (TypeError, ValueError):
        pads = ()
    if len(pads) != 2:
        raise ValueError(f'padding={padding!r}: give "SAME", "VALID", an int or ((top, bottom), (left, right))')
    return pads


def _check(x, kernel, groups, channels, features, impl):
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"x {x.shape} and kernel {kernel.shape}: give [B, H, W, C] and [kh, kw, in, out]")
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x is {x.dtype} and kernel {kernel.dtype}: give the same float type")
    if x.shape[3] != channels or channels % groups or features % groups:
        raise ValueError(f"groups={groups}: a kernel {kernel.shape} does not match x {x.shape}")
    if impl not in ("auto", "fast", "xla"):
        raise ValueError(f"impl={impl!r}: give auto, fast or xla")
