"""The errors that a user reads as one line, and the checks that raise them."""

import contextlib
import inspect
import math
import numbers
import textwrap
from collections.abc import Collection, Hashable, Mapping

from jaxgan.core.words import nearest


class ConfigError(ValueError):
    """Says that a setting cannot work: the message names the setting, its value and what would be right."""


class RunFailed(RuntimeError):
    """Says why a run whose settings were good cannot go on, and what is left of it, in one line."""


def summary(error: BaseException) -> str:
    """Returns an error in one line of at most 200 characters.

    Example:
      >>> summary(ZeroDivisionError("division\\nby zero"))
      'ZeroDivisionError: division by zero'
    """
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")


def require(good: bool, setting: str, value, right: str) -> None:
    """Raises a ConfigError unless `good`.

    Args:
      setting: as the user writes it, such as "config.batch_size" or "--num".
      value: what it is now; the message has its type where it would take several lines.
      right: what would be right, or why this is not.

    Example:
      >>> require(False, "--num", 0, "must be 1 or above")
      Traceback (most recent call last):
      jaxgan.core.errors.ConfigError: --num=0: must be 1 or above
    """
    if not good:
        text = repr(value)
        text = text if len(text) <= 200 and "\n" not in text else repr(type(value))
        raise ConfigError(f"{setting}={text}: {right}")


def is_whole(value, least: int = 0, most: float = math.inf) -> bool:
    """Returns whether `value` is an integer, Python's or NumPy's, in `least` .. `most`; a bool or a float is none.

    Example:
      >>> is_whole(3), is_whole(-1), is_whole(3.0), is_whole(True)
      (True, False, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= value <= most


def is_finite(value, least: float = -math.inf, most: float = math.inf) -> bool:
    """Returns whether `value` is a finite number, Python's or NumPy's, in `least` .. `most`; a bool is none."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and least <= value <= most and math.isfinite(value)


def require_whole(setting: str, value, least: int = 0, most: float = math.inf) -> None:
    """Raises a ConfigError unless `is_whole(value, least, most)`; `setting` is as in `require`."""
    limits = f", {least} or above" if most == math.inf else f" in {least} .. {most}"
    require(is_whole(value, least, most), setting, value, f"must be a whole number{limits}")


def require_finite(setting: str, value, least: float = -math.inf, most: float = math.inf) -> None:
    """Raises a ConfigError unless `is_finite(value, least, most)`; `setting` is as in `require`."""
    limits = f", {least:g} or above" if most == math.inf else f" in {least:g} .. {most:g}"
    limits = "" if (least, most) == (-math.inf, math.inf) else limits
    require(is_finite(value, least, most), setting, value, f"must be a finite number{limits}")


def require_function(setting: str, value, count: int, right: str) -> None:
    """Raises a ConfigError unless `value` can be called with `count` arguments; the rest is as in `require`.

    Example:
      >>> require_function("Loss.d", len, 2, "give a function of (logits_real, logits_fake)")
      Traceback (most recent call last):
      jaxgan.core.errors.ConfigError: Loss.d=<built-in function len>: give a function of (logits_real, logits_fake)
    """
    good = callable(value)
    with contextlib.suppress(ValueError):  # some functions that are not Python's have no signature
        try:
            inspect.signature(value).bind(*range(count))
        except TypeError:
            good = False
    require(good, setting, value, right)


def function_name(function) -> str:
    """Returns what an error calls a function of the user's, or another object that can be called."""
    return getattr(function, "__qualname__", type(function).__name__)


def require_choice(setting: str, value, known: Collection, other: str = "") -> None:
    """Raises a ConfigError that lists the choices, and the nearest ones, unless `value` is one.

    Args:
      setting, value: as in `require`.
      known: the choices.
      other: what would be right too, such as ", or a path".

    Example:
      >>> require_choice("config.optim_g.name", "adm", ["adam", "sgd"])
      Traceback (most recent call last):
      jaxgan.core.errors.ConfigError: config.optim_g.name='adm': choose one of adam, sgd; nearest: adam
    """
    good = isinstance(value, Hashable) and value in known
    require(good, setting, value, f"choose one of {', '.join(map(str, known))}{other}{nearest(value, known)}")


def lookup(table: Mapping, name, setting: str, other: str = ""):
    """Returns table[name], or raises the ConfigError of `require_choice`.

    Example:
      >>> lookup({"adam": 1, "sgd": 2}, "adam", "config.optim_g.name")
      1
    """
    require_choice(setting, name, table, other)
    return table[name]
