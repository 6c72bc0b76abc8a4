"""How a scalar setting changes during a run, as the setting `<name>_schedule` beside it says in words.

    constant
    linear to V [in K kimg]      from the setting's value to V, in K thousand real images, or by the end of the run
    cosine to V [in K kimg]      the same along half a cosine
    inverse sqrt from K kimg     value / sqrt(max(images / 1000 K, 1)) (Karras et al. 2024, EDM2, section 2)

Each may begin with "warmup K kimg, ": times min(images / 1000 K, 1). Linear and cosine begin after the warm-up.
"""

import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

FORMS = '"constant", "linear to V [in K kimg]", "cosine to V [in K kimg]" or "inverse sqrt from K kimg"'
_FORM = re.compile(
    r"(?:warmup (?P<warmup>\S+) kimg, )?"
    r"(?:(?P<constant>constant)|(?P<shape>linear|cosine) to (?P<end>\S+)(?: in (?P<over>\S+) kimg)?"
    r"|inverse sqrt from (?P<knee>\S+) kimg)"
)


class Schedule(NamedTuple):
    """A scalar as a function of the real images that D has seen."""

    start: float
    shape: str = "constant"  # constant, linear, cosine, inverse sqrt
    end: float = 0.0  # linear, cosine
    over: float = 0.0  # images; linear, cosine: from start to end; inverse sqrt: until it begins to fall
    warmup: float = 0.0  # images

    @property
    def values(self) -> tuple[float, ...]:
        """The largest and smallest values that it comes to, but for a warm-up's and what falls towards 0."""
        return (self.start, self.end) if self.shape in ("linear", "cosine") else (self.start,)

    @property
    def varies(self) -> bool:
        return self.shape != "constant" or self.warmup > 0

    def __bool__(self) -> bool:
        """Whether it is ever other than 0."""
        return any(self.values)

    def __call__(self, images_seen) -> jax.Array:
        """Its value after `images_seen` images, float32."""
        images = jnp.asarray(images_seen, jnp.float32)
        value = jnp.float32(self.start)
        if self.shape == "inverse sqrt":
            value *= jnp.sqrt(self.over / jnp.maximum(images, self.over))
        elif self.shape != "constant":
            share = jnp.clip((images - self.warmup) / max(self.over, 1.0), 0.0, 1.0)
            if self.shape == "cosine":
                share = 0.5 - 0.5 * jnp.cos(jnp.pi * share)
            value += (self.end - self.start) * share
        return value * jnp.minimum(images / self.warmup, 1.0) if self.warmup else value


def parse(start: float, text: str, run_kimg: float) -> Schedule:
    """The schedule that `text` describes, of a value that starts at `start`; ValueError if it describes none.

    `run_kimg` is the length of the run, whose warm-up is not part of "by the end of the run".
    """
    found = _FORM.fullmatch(text)
    try:
        numbers = {name: float(found[name] or 0) for name in ("warmup", "end", "over", "knee")}
    except (TypeError, ValueError):  # no match, or no number
        raise ValueError(f"give {FORMS}, each may follow 'warmup K kimg, '") from None
    given = {name: number for name, number in numbers.items() if found[name]}
    if not all(0 <= number < math.inf for number in given.values()) or 0 in (given.get("over"), given.get("knee")):
        raise ValueError("V and the warm-up must be finite and 0 or above, other numbers of kimg above 0")
    shape = found["shape"] or found["constant"] or "inverse sqrt"
    over = numbers["over"] or numbers["knee"]
    if found["shape"] and not found["over"]:
        over = max(run_kimg - numbers["warmup"], 0.0)
    return Schedule(start, shape, numbers["end"], 1e3 * over, 1e3 * numbers["warmup"])


def of(section, name: str, run_kimg: float) -> Schedule:
    """The schedule of the setting `name` of a section of a config."""
    return parse(section[name], section[f"{name}_schedule"], run_kimg)


def follows_run(text: str) -> bool:
    """Whether the length of the run is part of what `text` means."""
    return parse(0.0, text, math.inf).over == math.inf
