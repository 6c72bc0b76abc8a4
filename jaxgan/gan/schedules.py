"""How a scalar setting changes during a run, as the setting `<name>_schedule` beside it says in words.

    constant
    linear to V [in K kimg]      from the setting's value to V, in K thousand real images, or by the end of the run
    cosine to V [in K kimg]      the same along half a cosine
    inverse sqrt from K kimg     value / sqrt(max(images / 1000 K, 1)) (Karras et al. 2024, EDM2, section 2)

Each may begin with "warmup K kimg, ": times min(images / 1000 K, 1). Linear and cosine begin after the warm-up.
"""

import math
import re

import flax.struct
import jax
import jax.numpy as jnp

from jaxgan.core.errors import require, require_choice

LARGEST = 3.4e38  # of float32, what numbers of a recipe are on a device
SHAPES = ("constant", "linear", "cosine", "inverse sqrt")
FORMS = '"constant", "linear to V [in K kimg]", "cosine to V [in K kimg]" or "inverse sqrt from K kimg"'
_FORM = re.compile(
    r"(?:warmup (?P<warmup>\S+) kimg, )?"
    r"(?:(?P<constant>constant)|(?P<shape>linear|cosine) to (?P<end>\S+)(?: in (?P<over>\S+) kimg)?"
    r"|inverse sqrt from (?P<knee>\S+) kimg)"
)


@flax.struct.dataclass
class Schedule:
    """A scalar as a function of the real images that D has seen.

    Its numbers are leaves of a pytree, so that they may be arguments of a compiled program, or vmapped over; its form
    is static.

    Example:
      >>> float(Schedule(start=2.0, shape="linear", end=0.0, over=1000.0)(250))
      1.5
    """

    start: float
    end: float = 0.0  # linear, cosine
    over: float = 0.0  # images; linear, cosine: from start to end; inverse sqrt: until it begins to fall
    warmup: float = 0.0  # images
    shape: str = flax.struct.field(pytree_node=False, default="constant")  # one of SHAPES
    warms_up: bool = flax.struct.field(pytree_node=False, default=False)

    def __post_init__(self):
        require_choice("Schedule.shape", self.shape, SHAPES)
        for name in ("start", "end", "over", "warmup"):
            number = getattr(self, name)
            bad = number is None or isinstance(number, str) or (isinstance(number, float) and math.isnan(number))
            require(not bad, f"Schedule.{name}", number, "give a number")  # or an array, traced or not
            endless = name == "end" and isinstance(number, float) and math.isinf(number)
            require(not endless, f"Schedule.{name}", number, "give a finite number")
            if isinstance(number, int):  # another type would be another program
                object.__setattr__(self, name, float(number))

    @property
    def values(self) -> tuple[float, ...]:
        """Where it starts and ends; a warm-up starts below, and an inverse sqrt falls towards 0."""
        return (self.start, self.end) if self.shape in ("linear", "cosine") else (self.start,)

    @property
    def varies(self) -> bool:
        return self.shape != "constant" or self.warms_up

    @property
    def is_zero(self) -> bool:
        """Whether it is 0 all the time."""
        return not any(self.values)

    def __call__(self, images_seen) -> jax.Array:
        """Returns its value after `images_seen` images, float32."""
        images = jnp.asarray(images_seen, jnp.float32)
        value = jnp.asarray(self.start, jnp.float32)
        if self.shape == "inverse sqrt":
            value *= jnp.sqrt(self.over / jnp.maximum(images, self.over))
        elif self.shape != "constant":
            done = jnp.clip((images - self.warmup) / jnp.maximum(self.over, 1.0), 0.0, 1.0)
            if self.shape == "cosine":
                done = 0.5 - 0.5 * jnp.cos(jnp.pi * done)
            value += (self.end - self.start) * done
        return value * jnp.minimum(images / self.warmup, 1.0) if self.warms_up else value


def as_schedule(value: "Schedule | float") -> Schedule:
    """Returns a schedule; a number stays as it is during the run."""
    return Schedule(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def require_range(setting: str, schedule, most: float = math.inf, above: bool = False) -> None:
    """Raises a ConfigError unless this is a schedule whose values are finite and in [0, most].

    Values that are arrays, traced or those of a population, are not looked at.

    Args:
      setting: what the schedule is, for the error.
      most: the largest value.
      above: whether values must be above 0.
    """
    require(isinstance(schedule, Schedule), setting, schedule, "give a Schedule or a number")
    right = f"must be finite, {'above 0' if above else '0 or above'}" + f", at most {most:g}" * (most < math.inf)
    for value in schedule.values:
        if isinstance(value, float):
            require(0 <= value <= most and (value or not above), setting, value, right)
            require(value <= LARGEST, setting, value, f"{right}, as float32")


def parse_schedule(start: float, text: str, run_kimg: float) -> Schedule:
    """Returns the schedule that `text` describes, of a value that starts at `start`.

    Args:
      run_kimg: length of the run, for "by the end of the run", to which a warm-up does not count.

    Raises:
      ValueError: `text` describes no schedule.

    Example:
      >>> parse_schedule(2e-4, "linear to 0", run_kimg=100.0).over
      100000.0
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
    return Schedule(
        start, numbers["end"], 1e3 * over, 1e3 * numbers["warmup"], shape=shape, warms_up=numbers["warmup"] > 0
    )


def depends_on_run_length(text: str) -> bool:
    """Returns whether the length of the run is part of what `text` means."""
    return parse_schedule(0.0, text, math.inf).over == math.inf
