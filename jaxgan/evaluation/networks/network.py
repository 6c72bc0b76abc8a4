"""What a feature network is."""

from collections.abc import Callable
from typing import Any, NamedTuple


class FeatureNetwork(NamedTuple):
    """A pretrained network with its weights, to be called as `apply(variables, images)`."""

    name: str
    apply: Callable[[Any, Any], dict[str, Any]]  # pure: images uint8 [B, H, W, 3] to outputs, each float32 [B, n]
    variables: Any  # pytree of arrays
    weights: str  # SHA-256 of the weight file, hexadecimal; "": there are none
    resize: str  # what is done to images of another size, in words
    colours: bool = True  # takes RGB, and grey that is repeated; False: any number of channels
    most: int = 0  # images of a set that it looks at, evenly spaced; 0: all
