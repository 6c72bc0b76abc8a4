"""Networks as other code bases pickle them: their arrays by name, and the settings beside these."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxgan.core.pickled import Record

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"  # of NVIDIA's code
DEPTH = 20  # of modules in modules


class Converted(NamedTuple):
    """What a family makes of a file.

    Attributes:
      family: the code base, for people.
      licence: what is known of the terms of its weights, a sentence or two.
      settings: {"model.name": ...}, those of the config that describe the nets.
      image_size, image_channels, num_classes: of the images; num_classes is 0 for nets without labels.
      variables: {"g", "d" and "ema": the variables of the nets}, as far as the file has them.
      images: in the training set; 0: not known.
      assumed: what the file does not say, a sentence; "": nothing but the defaults of the code base.
    """

    family: str
    licence: str
    settings: dict[str, Any]
    image_size: int
    image_channels: int
    num_classes: int
    variables: dict[str, dict]
    images: int = 0
    assumed: str = ""


def any_generator(variables: dict[str, dict]) -> dict:
    """Returns the average of G or, where there is none, G, of {"g", "ema", ..: variables}."""
    return variables.get("ema", variables.get("g"))


class Arrays:
    """The arrays of a network by their names, each to be taken once.

    Attributes:
      names: those that are left.
    """

    def __init__(self, arrays: dict[str, np.ndarray], what: str):
        self._arrays, self._what = dict(arrays), what

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    @property
    def names(self) -> list[str]:
        return list(self._arrays)

    def peek(self, name: str) -> np.ndarray:
        """Returns an array as it is, without taking it."""
        self.shape(name)
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array; a ValueError names one that is not there."""
        if name not in self._arrays:
            raise ValueError(f"{self._what} has no {name}")
        return self._arrays[name].shape

    def count(self, pattern: str) -> int:
        """Returns how many of the numbers 0, 1, .. make a name that is there."""
        n = 0
        while pattern.format(n) in self:
            n += 1
        return n

    def take(self, name: str, axes: tuple[int, ...] | None = None) -> np.ndarray:
        """Returns an array in float32, its axes in another order; a ValueError names one that no net can work with."""
        self.shape(name)
        array = self._arrays.pop(name)
        if axes is not None and len(axes) != array.ndim:
            raise ValueError(f"{self._what}: {name} has the shape {list(array.shape)}, not {len(axes)} axes")
        result = np.array(array if axes is None else array.transpose(axes), np.float32, order="C")
        if not np.isfinite(result).all():
            raise ValueError(f"{self._what} has values that are not finite: {name}")
        if name.endswith("var") and (result < 0).any():
            raise ValueError(f"{self._what} has variances below 0: {name}")
        return result

    def dense(self, name: str, bias: str | None = "bias") -> dict[str, np.ndarray]:
        """Returns the parameters of a dense layer, whose weight is [out, in] there."""
        return {"kernel": self.take(f"{name}.weight", (1, 0))} | ({"bias": self.take(f"{name}.{bias}")} if bias else {})

    def kernel(self, name: str) -> np.ndarray:
        """Returns the kernel of a convolution, [out, in, H, W] there, as [H, W, in, out]."""
        return self.take(name, (2, 3, 1, 0))

    def require_empty(self, ignored: Iterable[str]) -> None:
        """Raises a ValueError for arrays that nobody took, unless their names end with one of `ignored`."""
        left = [name for name in self._arrays if not name.endswith(tuple(ignored))]
        if left:
            more = f" and {len(left) - 3} more" * (len(left) > 3)
            raise ValueError(f"{self._what} has what jaxgan's net has not: {', '.join(left[:3])}{more}")


def as_dict(value) -> dict:
    """Returns a dictionary, or the items of an object of a class derived from it; {} for anything else."""
    if isinstance(value, Record):
        return dict(value.items)
    return value if isinstance(value, dict) else {}


def images_in_training(content: dict) -> int:
    """Returns how many images the networks of a file were trained on; 0: it does not say."""
    images = as_dict(content.get("training_set_kwargs")).get("max_size")
    return images if isinstance(images, int) and images > 0 else 0


def class_name(module) -> str:
    """Returns the name of a module's class, without that of a file for NVIDIA's; "" where it is none."""
    if not isinstance(module, Record):
        return ""
    if module.name == PERSISTENT:
        return str(_meta(module).get("class_name", ""))
    return module.name


def attributes(module) -> dict:
    """Returns what a module has as attributes."""
    if not isinstance(module, Record):
        return {}
    return as_dict(_meta(module).get("state") if module.name == PERSISTENT else module.state)


def submodule(module, path: str):
    """Returns a module in a module, such as "mapping.fc0"; None where there is none."""
    for name in path.split("."):
        module = as_dict(attributes(module).get("_modules")).get(name)
    return module


def arrays_of(module, what: str) -> Arrays:
    """Returns the parameters and buffers of a module and all in it."""
    found = {}

    def collect(module, prefix: str, depth: int) -> None:
        if depth > DEPTH:
            raise ValueError(f"{what} has modules in modules without end")
        own = attributes(module)
        for kind in ("_parameters", "_buffers"):
            for name, value in as_dict(own.get(kind)).items():
                if isinstance(value, np.ndarray):
                    found[f"{prefix}{name}"] = value
        for name, inner in as_dict(own.get("_modules")).items():
            collect(inner, f"{prefix}{name}.", depth + 1)

    collect(module, "", 0)
    return Arrays(found, what)


def _meta(module: Record) -> dict:
    return as_dict(module.args[0]) if module.args else {}
