"""What a person reads of numbers and names."""

import difflib
from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """Returns a number and what it counts.

    Example:
      >>> counted(1, "D step"), counted(2_000, "run")
      ('1 D step', '2,000 runs')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def format_duration(seconds: float) -> str:
    """Returns a duration in its two leading units: "45 s", "3 min 20 s", "1 h 57 min", "2 d 3 h"."""
    if (whole := round(seconds)) < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if (minutes := round(seconds / 60)) < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def nearest(name: object, known: Iterable[str], prefix: str = "") -> str:
    """Returns the known names that `name` may be a misspelling of, as a part of an error; "" where there are none.

    Args:
      prefix: what stands before each, such as "--".

    Example:
      >>> nearest("frg", ["cat", "dog", "frog"]), nearest("wings", ["cat", "dog", "frog"])
      ('; nearest: frog', '')
    """
    near = difflib.get_close_matches(str(name), list(map(str, known)))
    return "; nearest: " + ", ".join(prefix + other for other in near) if near else ""
