"""Pretrained networks that turn images into the features that metrics compare; each is a module with `load(path)`."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Extractor(NamedTuple):
    """A network and its weights, to be called as `apply(variables, images)`."""

    name: str
    apply: Callable[[Any, Any], dict[str, Any]]  # pure: images uint8 [B, H, W, 3] to features, each float32 [B, n]
    variables: Any  # pytree of arrays
    weights: str  # SHA-256 of the weight file, hexadecimal
    resize: str  # what is done to images of another size, in words
