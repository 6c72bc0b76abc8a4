"""Handwritten digits, and images made of three stacked digits."""

import numpy as np
from PIL import Image

from jaxgan.core.errors import ConfigError, is_whole

SPLITS = {"train": 50_000, "test": 10_000}  # images in each split; the splits share no original


def load_digits(held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the digits that scikit-learn ships (UCI, Alpaydin & Kaynak 1998): uint8 [n, 8, 8], classes int32 [n].

    Every fifth of each class is held out, of 1,797 in all. Their 16 grey levels are spread over 0..255.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    classes = bunch.target.astype(np.int32)
    is_class = classes[:, None] == np.arange(10)
    nth = np.cumsum(is_class, axis=0)[is_class]  # 1 for the first of its class
    chosen = (nth % 5 == 0) == held_out
    return images[chosen], classes[chosen]


class StackedDigits:
    """Three digits as the R, G and B planes of an image: 1,000 equally likely modes (Metz et al. 2017).

    The label is 100 r + 10 g + b. A plane is a class drawn uniformly, then one of its originals, resized
    from 8x8 bilinearly. Image i is always the same, whatever the seed of the run.

    Args:
      split: train (50,000 images) or test (10,000 images of held-out originals).
      image_size: 8 to 64 pixels.
      setting: what `split` came from, for the error.
    """

    num_classes = 1000

    def __init__(self, split: str, image_size: int, setting: str = "split"):
        if split not in SPLITS:
            raise ConfigError(f"{setting}={split!r}: stacked_digits has the splits {', '.join(SPLITS)}")
        if not is_whole(image_size, 8, 64):
            raise ConfigError(f"config.data.image_size={image_size}: stacked_digits takes 8 to 64 pixels")
        self.image_shape = (image_size, image_size, 3)
        originals, classes = load_digits(held_out=split == "test")
        planes = [Image.fromarray(x).resize((image_size,) * 2, Image.Resampling.BILINEAR) for x in originals]
        self._planes = np.stack([np.asarray(plane) for plane in planes])

        stream = [0x57AC4ED, list(SPLITS).index(split)]  # never change: which images there are
        bits = np.random.Philox(key=np.array(stream, np.uint64)).random_raw(SPLITS[split] * 6)
        digits, which = bits.reshape(-1, 2, 3).transpose(1, 0, 2)  # uint64 [N, 3]
        digits = (digits % 10).astype(np.int32)
        counts = np.bincount(classes)
        first = np.cumsum(counts) - counts  # of each class, when sorted by class
        nth = (which % counts.astype(np.uint64)[digits]).astype(np.int64)
        self._originals = np.argsort(classes, kind="stable")[first[digits] + nth]  # [N, 3]
        self.labels = digits @ np.array([100, 10, 1], np.int32)

    def __len__(self):
        return len(self.labels)

    def get(self, indices):
        planes = [self._planes[self._originals[indices, channel]] for channel in range(3)]
        return np.stack(planes, axis=-1), self.labels[indices]
