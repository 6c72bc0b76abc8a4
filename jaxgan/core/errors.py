"""The errors that a user reads as one line, and the checks that raise them."""

from collections.abc import Mapping


class ConfigError(ValueError):
    """Says that a setting cannot work: the message names the setting, its value and what would be right."""


class RunFailed(RuntimeError):
    """Says why a run whose settings were good cannot go on, and what is left of it, in one line."""


def require(good: bool, setting: str, value, right: str) -> None:
    """Raises a ConfigError unless `good`.

    Args:
      setting: as the user writes it, such as "config.batch_size" or "--num".
      value: what it is now.
      right: what would be right, or why this is not.
    """
    if not good:
        raise ConfigError(f"{setting}={value!r}: {right}")


def lookup(table: Mapping, name: str, setting: str):
    """Returns table[name], or raises a ConfigError that lists the choices.

    Example:
      >>> lookup({"adam": 1, "sgd": 2}, "adam", "config.optim_g.name")
      1
    """
    require(name in table, setting, name, f"choose one of {', '.join(map(str, table))}")
    return table[name]
