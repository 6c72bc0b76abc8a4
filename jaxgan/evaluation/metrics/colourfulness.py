"""How colourful images look (Hasler & Süsstrunk 2003), which features of classifiers hardly see."""

import numpy as np


def colourfulness(images: np.ndarray) -> np.ndarray:
    """Returns M3 of Hasler & Süsstrunk, float64 [N] >= 0, of images [N, H, W, 3] in 0..255; grey has 0.

    With rg = R - G and yb = (R + G) / 2 - B it is sqrt(var rg + var yb) + 0.3 sqrt((mean rg)^2 + (mean yb)^2), over the
    pixels of an image. By the paper's viewers 15 is slightly, 33 moderately, 59 quite, 109 extremely colourful.

    Example:
      >>> red = np.full((1, 4, 4, 3), [200, 0, 0])
      >>> colourfulness(red)  # 0.3 sqrt(200^2 + 100^2)
      array([67.08203932])
    """
    red, green, blue = np.moveaxis(np.asarray(images, np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    deviation, mean = np.sqrt(opponents.var((2, 3)).sum(0)), np.hypot(*opponents.mean((2, 3)))
    return deviation + 0.3 * mean
