"""What a feature network is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax


class FeatureNetwork(NamedTuple):
    """A pretrained network with its weights, to be called as `network(network.variables, images)`."""

    name: str
    apply: Callable[[Any, Any], dict[str, Any]]  # pure: images uint8 [B, H, W, 3] to outputs, each float32 [B, n]
    variables: Any  # pytree of arrays
    weights: str  # SHA-256 of the weight file, hexadecimal; "": there are none
    resize: str  # what is done to images of another size, in words
    colours: bool = True  # takes RGB, and grey that is repeated; False: any number of channels
    most: int = 0  # images of a set that it looks at, evenly spaced; 0: all
    cpu_batch: int = 0  # images at a time on a CPU, which stay in its caches; 0: all

    def __call__(self, variables, images) -> dict[str, Any]:
        """Returns what `apply` does, by as many images at a time as suit the machine; pure."""
        if not self.cpu_batch or jax.default_backend() != "cpu":
            return self.apply(variables, images)

        def single(image):
            return jax.tree.map(lambda x: x[0], self.apply(variables, image[None]))

        return lax.map(single, images, batch_size=self.cpu_batch)
