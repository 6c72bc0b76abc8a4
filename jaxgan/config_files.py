"""Config files: the packaged ones by name, anyone's by path."""

import ast
import importlib.util
import inspect
import os
import pathlib
import re
import traceback

from ml_collections import ConfigDict

from jaxgan.core.errors import ConfigError, lookup, require
from jaxgan.core.files import as_path

_ROOT = pathlib.Path(__file__).parent


def packaged() -> dict[str, pathlib.Path]:
    """Returns name -> file of every packaged config; a wheel has them inside the package, a checkout beside it."""
    files = [*_ROOT.glob("configs/*.py")] or [*_ROOT.parent.glob("configs/*.py")]
    return {file.stem: file for file in sorted(files)}


def describe(file: pathlib.Path) -> tuple[str, str, str]:
    """Returns what the docstring of a config file says: its first paragraph, and its cost and score or twice "".

    Example:
      >>> describe(packaged()["cifar_dcgan"])[1:]
      ('0.05 EFLOP', 'FID 48.29, published')
    """
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    known = re.search(r"^Cost: (.+); score: (.+)\.$", text, re.MULTILINE)
    return " ".join(text.partition("\n\n")[0].split()), *(known.groups() if known else ("", ""))


def split_variant(name: str) -> tuple[str, str]:
    """Returns a config's name or file, and its variant, "" where none is named.

    Example:
      >>> split_variant("cifar:unconditional"), split_variant("C:/mine.py:wide")
      (('cifar', 'unconditional'), ('C:/mine.py', 'wide'))
    """
    base, variant = re.fullmatch(r"(.*?\.py(?=:|$)|[^:]*)(?::(.*))?", name, re.DOTALL).groups()
    return base, variant or ""


def config(name: str | os.PathLike) -> ConfigDict:
    """Returns the config of a packaged name or a file, such as "cifar", "cifar:unconditional" or "path/to/file.py".

    Args:
      name: a name in `packaged()`, or a path that ends in ".py"; what follows a colon goes to the file's `get_config`.

    Raises:
      ConfigError: there is no such config, or its file has an error, which is named with its line.

    Example:
      >>> config("cifar").model.name
      'biggan'
    """
    base, variant = split_variant(os.fspath(name)) if isinstance(name, str | os.PathLike) else (name, "")
    if isinstance(base, str) and base.endswith(".py"):
        file = as_path(base, "config", local=True)
        require(file.is_file(), "config", name, "there is no such file")
    else:
        file = lookup(packaged(), base, "config", ", or the path of a FILE.py")
    before, nul, _ = file.read_bytes().partition(b"\0")
    line = before.count(b"\n") + 1
    require(not nul, f"{file}:{line}", nul, "must be text, without NUL bytes")
    try:
        spec = importlib.util.spec_from_file_location(f"jaxgan_config_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        require(callable(get_config), "config", name, "the file defines no function get_config")
        require(not variant or bool(inspect.signature(get_config).parameters), "config", name, "it has no variants")
        made = get_config(variant) if variant else get_config()
        require(isinstance(made, ConfigDict), f"{file}: get_config()", made, "must return a ConfigDict")
        return made
    except (Exception, SystemExit) as error:  # whatever a user's file does
        if isinstance(error, ConfigError) and not isinstance(error, AttributeError | TypeError):
            raise
        raise ConfigError(f"{_where(error, file)}: {_brief(error)}") from error


def _brief(error: BaseException) -> str:
    """Returns an error's message, without the whole config that ml_collections puts into that of an unknown key."""
    if isinstance(error, ConfigError):
        return str(error)
    words = error.args[0] if isinstance(error, KeyError) and error.args else error  # str() puts it into quotes
    message, _, config = str(words).partition(" and cannot be added since the config is locked")
    nearest = re.search(r"Did you mean .*\?", config)
    return type(error).__name__ + f": {message}" * bool(message) + (f". {nearest[0]}" if nearest else "")


def _where(error: BaseException, file: pathlib.Path) -> str:
    """Returns the file and the line in it that an error comes from."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)
