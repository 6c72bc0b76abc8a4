"""Resamples with a separable low-pass filter (Zhang 2019), alone and around a convolution as in StyleGAN2.

All of it is linear in the images and made of `jaxgan.ops.conv` and `jaxgan.ops.fir`, so that derivatives of any order
exist. Images are [B, H, W, C], pixels outside count as zero, and a filter is a sequence of taps for both axes.
"""

import numpy as np

from jaxgan.ops.conv import conv, conv_transpose
from jaxgan.ops.fir import fir

BINOMIAL = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


def upfirdn(x, taps, *, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0)):
    """Inserts up - 1 zeros after each pixel, pads, convolves with `taps` and keeps each `down`-th, along H and W.

    Args:
      x: [B, H, W, C].
      taps: the filter, used as it is (no normalisation, no gain), a true convolution: taps[0] meets the last pixel.
      padding: zeros to add before and after along both axes, counted in pixels after `up`; negative ones crop.

    Returns:
      [B, H', W', C] with H' = ceil((H * up + sum(padding) - len(taps) + 1) / down).

    Raises:
      ValueError: up or down below 1, or nothing is left.
    """
    if up < 1 or down < 1:
        raise ValueError(f"up={up}, down={down}: give integers above 0")
    before, after = padding
    smallest = min(x.shape[1:3]) * up + before + after
    if smallest < len(taps):
        raise ValueError(f"{x.shape}, up={up}, padding={padding}: {smallest} pixels for {len(taps)} taps")
    for axis in (1, 2):
        size = (x.shape[axis] * up + before + after - len(taps)) // down + 1
        x = fir(x, tuple(taps)[::-1], axis, up=up, down=down, before=before, size=size)
    return x


def upsample(x, taps=BINOMIAL):
    """Doubles the size: [B, H, W, C] to [B, 2 H, 2 W, C]. Taps of sum 1 keep a constant, away from the border."""
    size = len(taps)
    return upfirdn(x, 2 * np.asarray(taps), up=2, padding=((size + 1) // 2, (size - 2) // 2))


def downsample(x, taps=BINOMIAL):
    """Halves the size: [B, H, W, C], even H and W, to [B, H / 2, W / 2, C]. Taps of sum 1 keep a constant."""
    size = len(taps)
    return upfirdn(x, taps, down=2, padding=((size - 1) // 2, (size - 2) // 2))


def conv_up(x, kernel, taps=BINOMIAL):
    """Doubles the size, convolving on the way: transposed convolution with stride 2, then the filter.

    It equals `upfirdn`, with a gain of 4, and then a convolution of the large image, at a fourth of the cost.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, O], k odd, as for `conv_transpose`: a convolution's is flipped in both spatial axes.

    Returns:
      [B, 2 H, 2 W, O].
    """
    reach, size = kernel.shape[0] // 2, len(taps)
    padding = ((size + 1) // 2 - reach, (size - 2) // 2 - reach + 1)
    return upfirdn(conv_transpose(x, kernel, stride=2, padding=0), 2 * np.asarray(taps), padding=padding)


def conv_down(x, kernel, taps=BINOMIAL):
    """Halves the size, convolving on the way: the filter, then a convolution with stride 2.

    Args:
      x: [B, H, W, C], even H and W.
      kernel: [k, k, C, O], k odd.

    Returns:
      [B, H / 2, W / 2, O].
    """
    reach, size = kernel.shape[0] // 2, len(taps)
    padding = ((size - 1) // 2 + reach, (size - 2) // 2 + reach)
    return conv(upfirdn(x, taps, padding=padding), kernel, stride=2, padding="VALID")
