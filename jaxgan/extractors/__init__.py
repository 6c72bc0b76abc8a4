"""Networks that turn images into what scores are computed from; one module each, with a function `load`."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Extractor(NamedTuple):
    """A network with its weights, ready to apply."""

    name: str
    apply: Callable[[Any, Any], dict]  # pure: (variables, images uint8 [B, H, W, 3]) -> {output: float32 [B, n]}
    variables: Any  # pytree of arrays
    weights: str  # SHA-256 of the weights, hexadecimal
    resize: str  # how images reach the network's size, in words
