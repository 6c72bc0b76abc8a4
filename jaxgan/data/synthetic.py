"""Images of noise that are in memory at once: what a step costs, with nothing on disk."""

import numpy as np

MOST_BYTES = 2**26  # of the images that there are; index i has image i modulo their number
NUM_IMAGES = 50_000


class Synthetic:
    """Noise of any size, channels and classes.

    Batches are copied from it and sent to the devices as those of any set are, while the devices are at work: a step
    costs what it costs with a set that is decoded, and the run needs no way of its own.

    Args:
      image_shape: height, width and channels.
      num_classes: image i is of the class i modulo this number; 0: no labels.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int):
        self.image_shape, self.num_classes = tuple(image_shape), num_classes
        count = max(1, min(256, MOST_BYTES // int(np.prod(image_shape))))
        bits = np.random.Philox(key=np.array([0x5E7, 0], np.uint64))  # never change: which images there are
        words = -(-int(np.prod(image_shape)) * count // 8)
        pixels = bits.random_raw(words).view(np.uint8)[: int(np.prod(image_shape)) * count]
        self._images = pixels.reshape(count, *image_shape)
        self.labels = (np.arange(NUM_IMAGES) % max(num_classes, 1)).astype(np.int32)

    def __len__(self):
        return NUM_IMAGES

    def get(self, indices):
        return np.take(self._images, np.asarray(indices) % len(self._images), axis=0), self.labels[indices]
