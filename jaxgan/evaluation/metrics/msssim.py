"""MS-SSIM (Wang et al. 2003), and how alike samples of one class are by it (Odena et al. 2017)."""

import numpy as np

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # of the scales, the finest first
WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
PAIRS = 100  # of a class, as in Odena et al.


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the similarity of images a[i] and b[i], both [N, H, W, C] in 0..255: float64 [N] in 0..1, 1 if equal.

    There are five scales, or as many as halve the smaller side to no less than one pixel, with weights of sum 1. Where
    an image is smaller than the window of 11 pixels, the window is as large as the image and as much narrower. A
    negative correlation counts as none.
    """
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    scales = min(len(WEIGHTS), int(np.log2(min(a.shape[1:3]))) + 1)
    weights = WEIGHTS if scales == len(WEIGHTS) else WEIGHTS[:scales] / WEIGHTS[:scales].sum()
    product = np.ones(len(a))
    for i, weight in enumerate(weights):
        luminance, structure = _ssim(a, b)
        last = i == scales - 1
        mean = (luminance * structure if last else structure).mean(axis=(1, 2, 3))
        product *= np.maximum(mean, 0.0) ** weight
        a, b = (x if last else _halve(x) for x in (a, b))
    return product


def _ssim(a, b) -> tuple[np.ndarray, np.ndarray]:
    """Returns the luminance and the contrast and structure terms at every place where the window fits."""
    mean_a, mean_b = _blur(a), _blur(b)
    square_a, square_b, product = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2, _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return luminance, (2 * product + C2) / (square_a + square_b + C2)


def _blur(x: np.ndarray) -> np.ndarray:
    size = min(WINDOW, *x.shape[1:3])
    at = np.arange(size) - (size - 1) / 2
    window = np.exp(-0.5 * (at / (SIGMA * size / WINDOW)) ** 2)
    window /= window.sum()
    for axis in (1, 2):
        x = np.lib.stride_tricks.sliding_window_view(x, size, axis) @ window
    return x


def _halve(x: np.ndarray) -> np.ndarray:
    """Returns the means of 2x2 blocks, without an odd last row or column."""
    n, height, width, channels = x.shape
    return x[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def msssim_within_classes(images: np.ndarray, labels: np.ndarray | None, seed: int = 0) -> tuple[float, dict]:
    """Returns the mean MS-SSIM of 100 random pairs of each class: the mean over the classes, and {class: mean}.

    Args:
      images: [N, H, W, C] in 0..255.
      labels: int [N]; None: all images are one class, and there are no means of classes.
      seed: of the pairs.

    Raises:
      ValueError: no class has two images.
    """
    draw, each = np.random.Generator(np.random.Philox(seed)), {}
    for label in [0] if labels is None else np.unique(labels):
        members = np.arange(len(images)) if labels is None else np.flatnonzero(labels == label)
        if len(members) > 1:
            first = draw.integers(len(members), size=PAIRS)
            second = (first + draw.integers(1, len(members), size=PAIRS)) % len(members)  # another one
            each[int(label)] = float(ms_ssim(images[members[first]], images[members[second]]).mean())
    if not each:
        raise ValueError("no class has two images to compare")
    return float(np.mean(list(each.values()))), {} if labels is None else each
