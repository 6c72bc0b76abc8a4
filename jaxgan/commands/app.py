"""What the commands share: flags of their own, one-line errors with an exit status, the compilation cache."""

import contextlib
import copy
import dataclasses
import difflib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence

import jax
from absl import flags, logging
from ml_collections import config_flags

import jaxgan
from jaxgan import config_files
from jaxgan.core import memory
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import cache_directory
from jaxgan.settings import default_config, flatten, unknown_key


class _TupleParser(flags.ArgumentParser):
    """Reads fid,is and (8, 16) and nothing at all as tuples; ml_collections wants quotes around words."""

    def parse(self, argument: str | tuple) -> tuple:
        if isinstance(argument, tuple):
            return argument
        words = [word.strip(" '\"") for word in argument.strip("()[] ").split(",")]
        return tuple(_number(word) for word in words if word)


def _number(word: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word


config_flags.register_flag_parser_for_type(tuple, _TupleParser())


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line that can be called from Python, any number of times.

    Attributes:
      function: takes the parsed flags and, if `flags` has "config", the ConfigDict; returns None or an exit status.
      flags: what the command accepts, as absl defines it; a call parses a copy.
      required: flags that have to be given.
      cpu_devices: into how many devices a process of its own divides the CPU.
    """

    function: Callable[..., int | None]
    flags: flags.FlagValues
    required: Sequence[str] = ()
    cpu_devices: int = 1

    def __call__(self, arguments: Sequence[str]) -> int:
        """Runs the command.

        Args:
          arguments: as typed, without the program's name.

        Returns:
          The exit status: 0, 2 for bad input, 1 for a run that failed, 130 after Ctrl-C, each but 0 with one line on
          stderr; or the function's own.
        """
        try:
            parsed = self._parse(arguments)
            return self.function(*parsed) or 0 if parsed else 0
        except ConfigError as error:
            return _fail(error, 2)
        except KeyboardInterrupt:  # before or after training, which answers it itself
            return _fail("interrupted", 130)
        except (RunFailed, OSError) as error:  # OSError: a disk that is full, a damaged checkpoint, a broken image
            return _fail(error, 1)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            advice = "a smaller config.batch_size, narrower nets or config.dtype=bfloat16 need less"
            return _fail(f"{str(error).splitlines()[0]} ({advice})", 1)

    def _parse(self, arguments: Sequence[str]) -> tuple | None:
        """Returns the function's arguments, or None where --help or --version is answered already."""
        values = copy.deepcopy(self.flags)
        flags.DEFINE_bool("help", False, "Print this and exit.", flag_values=values)
        flags.DEFINE_bool("version", False, "Print the version and exit.", flag_values=values)
        arguments = ["--help" if argument == "-h" else argument for argument in arguments]
        try:
            left_over = values(["jaxgan", *arguments], known_only="config" in values)[1:]
        except flags.Error as error:
            raise ConfigError(_explain(error, values)) from error
        if values.version:
            return print(f"jaxgan {jaxgan.__version__}")
        config = config_files.config(values.config) if "config" in values and values.config else None
        if values.help:
            return print(self._help(config))
        for name in self.required:
            if values[name].value is None:
                raise ConfigError(f"--{name} is not given: {values[name].help}")
        if config is not None:
            left_over = _override(config, left_over, values)
        if left_over:
            raise ConfigError(
                f"arguments that mean nothing here: {' '.join(left_over)} (settings are written --config.KEY=VALUE)"
            )
        return (values,) if config is None else (values, config)

    def _help(self, config) -> str:
        """Returns the command's docstring, its flags and, of a config that is given, all settings."""
        lines = [inspect.cleandoc(sys.modules[self.function.__module__].__doc__), "", "Flags:"]
        for name in self.flags:
            flag = self.flags[name]
            default = "" if flag.default in (None, "", False) else f" Default: {flag.default}."
            lines.append(f"  --{name}")
            lines += textwrap.wrap(flag.help + default, 108, initial_indent=" " * 6, subsequent_indent=" " * 6)
        if config is not None:
            lines += ["", "Settings, as this config has them (their meaning is in jaxgan/settings.py):"]
            lines += [f"  --config.{key}={value!r}" for key, value in flatten(config).items()]
        elif "config" in self.flags:
            lines += ["", *textwrap.wrap(f"Configs: {', '.join(config_files.packaged())}", 114, subsequent_indent="  ")]
            lines += ["With --config=NAME, --help also lists its settings."]
        return "\n".join(lines)


def command(flag_values: flags.FlagValues, required: Sequence[str] = (), cpu_devices: int = 1):
    """Returns a decorator that makes a `Command` of a function of the parsed flags."""
    return lambda function: Command(function, flag_values, required, cpu_devices)


def run(main: Command) -> None:
    """Runs a command on this process's arguments and exits with its status."""
    logging.set_verbosity(logging.WARNING)  # the console is the program's own
    cache_compilations()
    memory.retain_freed()
    if main.cpu_devices > 1 and jax.config.jax_num_cpu_devices < 0:  # JAX_NUM_CPU_DEVICES is not set
        jax.config.update("jax_num_cpu_devices", main.cpu_devices)
    status = main(sys.argv[1:])
    if status and jax.distributed.is_initialized():
        os._exit(status)  # an orderly exit would wait for the other processes, which wait for this one
    sys.exit(status)


def cache_compilations() -> None:
    """Keeps compiled programs between runs, in the user's cache unless JAX_COMPILATION_CACHE_DIR says otherwise."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory("xla")))


def _fail(message, status: int) -> int:
    """Prints one line on stderr and returns the exit status."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return status


def _override(config, arguments: Sequence[str], known_flags: flags.FlagValues) -> list[str]:
    """Sets each --config.KEY=VALUE in `config` and returns the arguments that are none."""
    known = flatten(default_config())
    for key in re.findall(r"^--?(?:no)?config\.([^=\s]+)", "\n".join(arguments), re.MULTILINE):
        if key not in known:
            raise ConfigError(unknown_key(key, known))
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=list(arguments))
        return values(["jaxgan", *arguments])[1:]
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(_explain(error, known_flags)) from error


def _explain(error: Exception, known_flags: flags.FlagValues) -> str:
    """Returns what an error of absl's parser means; an unknown flag has the nearest names beside it."""
    if not isinstance(error, flags.UnrecognizedFlagError):
        return str(error)
    near = ", ".join(f"--{name}" for name in difflib.get_close_matches(error.flagname, list(known_flags)))
    return f"--{error.flagname} does not exist" + f"; nearest: {near}" * bool(near)
