"""Real images, from where they are stored to the batches of a training step.

Here live the `Dataset` protocol and the facts about a data set (spec), arrays as a data set (arrays), the named ones
and anyone's files (sources; cifar10, tfds, numerals, digits, synthetic, images). Images of one's own are found in
directories (scan) and archives (stores), with their labels (labels), and become pixels (image_file), once for all
(decoding). Then come the order of the images and their batches (batches), and pixels between uint8 and [-1, 1]
(pixels). Nothing here knows networks, losses or metrics; the augmentation of what D sees is in jaxgan/gan/augment.py.
"""

from jaxgan.data.arrays import ArrayDataset
from jaxgan.data.batches import Batches, batch_spec, epoch_positions, require_memory_of_batches
from jaxgan.data.decoding import StreamingDataset
from jaxgan.data.pixels import random_flip, to_float, to_uint8
from jaxgan.data.sources import DATASETS, check_source, load, load_held_out, names_images, open_images
from jaxgan.data.spec import Dataset, DataSpec, check_dataset, evenly_spaced, read, subset

__all__ = [
    "DATASETS",
    "ArrayDataset",
    "Batches",
    "DataSpec",
    "Dataset",
    "StreamingDataset",
    "batch_spec",
    "check_dataset",
    "check_source",
    "epoch_positions",
    "evenly_spaced",
    "load",
    "load_held_out",
    "names_images",
    "open_images",
    "random_flip",
    "read",
    "require_memory_of_batches",
    "subset",
    "to_float",
    "to_uint8",
]
