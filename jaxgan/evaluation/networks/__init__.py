"""Pretrained networks, which turn images into the features that metrics compare.

One file a network, each with a `load` that returns a `FeatureNetwork`; `weights.py` fetches weight files and
`core/torch_file.py` reads those of PyTorch. Nothing here knows of metrics, data sets or generators, and nothing is
trained: what makes the weights that the package ships is in tools/.
"""

from jaxgan.evaluation.networks import cifar, digits, dinov2, inception, numerals, patches
from jaxgan.evaluation.networks.network import FeatureNetwork

__all__ = ["NETWORKS", "FeatureNetwork", "abstract"]

# The functions that load a network, given a weight file or None for its usual weights; add your own.
NETWORKS = {
    "inception": inception.load,
    "dinov2": dinov2.load,
    "cifar": cifar.load,
    "digits": lambda file: digits.load(),  # fitted when they are loaded
    "numerals": lambda file: numerals.load(),
    "patches": lambda file: patches.load_patches(),
    "pixels": lambda file: patches.load_pixels(),
}

_DOWNLOADED = {"inception": inception.abstract, "dinov2": dinov2.abstract}


def abstract(name: str) -> FeatureNetwork:
    """Returns a network for arithmetic: one that would have to be downloaded has the shapes of its variables alone."""
    return _DOWNLOADED[name]() if name in _DOWNLOADED else NETWORKS[name](None)
