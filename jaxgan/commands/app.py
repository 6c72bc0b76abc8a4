"""What the commands share: flags of their own, one-line errors with an exit status, the compilation cache."""

import contextlib
import copy
import dataclasses
import errno
import functools
import inspect
import logging
import os
import re
import shlex
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

import jaxgan
from jaxgan import config_files
from jaxgan.core.errors import ConfigError, require
from jaxgan.core.signals import ctrl_c_ends_at_once, ctrl_c_raises, no_lost_ctrl_c
from jaxgan.core.words import nearest

# JAX and what imports it takes a second: functions import it, so that a command can say something before.


class _TupleParser(flags.ArgumentParser):
    """Reads fid,is and (8, 16) and nothing at all as tuples; ml_collections wants quotes around words."""

    def parse(self, argument: str | tuple) -> tuple:
        if isinstance(argument, tuple):
            return argument
        text = argument.strip()
        if text.startswith(("(", "[")) != text.endswith((")", "]")):
            raise ValueError("a bracket is missing")
        words = [word.strip(" '\"") for word in text.strip("()[] ").split(",")]
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
      positional: flags whose values may be words without a name, in this order; one that is a list takes all the rest.
      cpu_devices: into how many devices a process of its own divides the CPU; 0: it needs none, and no JAX.
      if_interrupted: what a Ctrl-C means that is not answered otherwise.
      less_memory: says what takes less memory, of the error and the function's arguments, where it did not suffice.
      first_line: returns what is printed before anything that takes time, of the flags and the settings as typed.
      saved_config: returns the config where --config is not given, of the flags; None: there is none then.
    """

    function: Callable[..., int | None]
    flags: flags.FlagValues
    required: Sequence[str] = ()
    positional: Sequence[str] = ()
    cpu_devices: int = 1
    if_interrupted: str = ""
    less_memory: Callable[..., str] | None = None
    first_line: Callable[..., str] | None = None
    saved_config: Callable[..., object] = lambda flags: None

    def __call__(self, arguments: Sequence[str], prepare: Callable[[], None] = lambda: None) -> int:
        """Runs the command.

        Args:
          arguments: as typed, without the program's name.
          prepare: is called once the flags are read, before a config is.

        Returns:
          The exit status: 0, or the function's own; 2 for bad input, 1 for a failure, 130 after Ctrl-C, each with one
          line on stderr, see `jaxgan.core.failures`.
        """
        parsed = ()
        try:
            with no_lost_ctrl_c():
                parsed = self._parse(arguments, prepare)
                return self.function(*parsed) or 0 if parsed else 0
        except (Exception, KeyboardInterrupt) as error:
            return self._fail(error, parsed)

    def _fail(self, error: BaseException, parsed: tuple) -> int:
        """Prints one line on stderr and returns the exit status."""
        from jaxgan.core.failures import explain, is_out_of_memory

        advice = self.if_interrupted if isinstance(error, KeyboardInterrupt) else ""
        if parsed and self.less_memory and is_out_of_memory(error):
            advice = self.less_memory(error, *parsed)
        directory = parsed[0].workdir if parsed and "workdir" in parsed[0] else None
        status, line = explain(error, directory, advice)
        print(f"error: {line}", file=sys.stderr, flush=True)
        return status

    def _parse(self, arguments: Sequence[str], prepare: Callable[[], None]) -> tuple | None:
        """Returns the function's arguments, or None where --help or --version is answered already."""
        values = copy.deepcopy(self.flags)
        flags.DEFINE_bool("help", False, "Print this and exit.", flag_values=values)
        flags.DEFINE_bool("version", False, "Print the version and exit.", flag_values=values)
        if "config" in values:
            flags.DEFINE_bool("settings", False, "Print all settings and exit.", flag_values=values)
        arguments = ["--help" if argument == "-h" else argument for argument in arguments]
        try:
            left_over = values(["jaxgan", *arguments], known_only="config" in values)[1:]
        except flags.Error as error:
            raise ConfigError(_explain(error, values)) from error
        if values.version:
            return print(f"jaxgan {jaxgan.__version__}")
        if values.help:
            return print(self._help())
        for name in self.positional if left_over else ():
            several = isinstance(values[name].parser, flags.ListParser)
            count = len(left_over) if several else 1
            words, left_over = left_over[:count], left_over[count:]
            if words:
                values[name].value = words if several else words[0]
        settings = "config" in values and values.settings
        for name in ("config",) if settings and "config" in self.required else self.required:
            if values[name].value in (None, ""):
                raise ConfigError(f"--{name} is not given: {values[name].help}")
        if self.first_line and not settings:
            print(self.first_line(values, left_over), flush=True)
        prepare()
        with naming_flags(["config"]):
            config = _read_config(values.config) if "config" in values and values.config else None
        config = self.saved_config(values) if config is None else config
        if config is not None:
            left_over = _override(config, left_over, values)
        if left_over:
            raise ConfigError(
                f"arguments that mean nothing here: {' '.join(left_over)} (settings are written --config.KEY=VALUE)"
            )
        if settings:
            return print(_settings(config))
        return (values,) if config is None else (values, config)

    def _help(self) -> str:
        """Returns the command's docstring and its flags."""
        lines = [inspect.cleandoc(sys.modules[self.function.__module__].__doc__), ""]
        width = max((len(name) for name in self.flags), default=0) + 6
        for name in self.flags:
            flag = self.flags[name]
            default = "" if flag.default in (None, "", False) else f" Default: {flag.default}."
            first = f"  --{name}".ljust(width)
            lines += textwrap.wrap(flag.help + default, 118, initial_indent=first, subsequent_indent=" " * width)
        if "config" in self.flags:
            lines += ["", *textwrap.wrap(f"Configs: {', '.join(config_files.packaged())}", 118, subsequent_indent="  ")]
            lines += ["With --config=NAME, --settings lists its settings. `jaxgan configs` says more about each."]
        return "\n".join(lines)


def _settings(config) -> str:
    """Returns every setting of a config as it is typed, with what it means as a comment."""
    from jaxgan.settings import flatten, meanings

    means, flat, lines = meanings(), flatten(config), []
    for key, value in flat.items():
        if value is not None:
            typed = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            line = f"--config.{key}={shlex.quote(typed)}" + (f"  # {means[key]}" if key in means else "")
            lines += textwrap.wrap(line, 118, subsequent_indent="  # ", break_long_words=False, break_on_hyphens=False)
    unset = ", ".join(f"config.{key}" for key, value in flat.items() if value is None)
    return "\n".join([*lines, *textwrap.wrap(f"# Unset, the architecture's own: {unset}", 118, subsequent_indent="# ")])


def command(flag_values: flags.FlagValues, **attributes):
    """Returns a decorator that makes a `Command`, with these attributes, of a function of the parsed flags."""
    return lambda function: Command(function, flag_values, **attributes)


@contextlib.contextmanager
def naming_flags(names: Iterable[str], **renamed: str):
    """Turns what the API says of its arguments, "argument=value: ...", into an error that names the flag.

    Args:
      names: of flags that are called as the arguments are.
      renamed: flags that are called otherwise, by the argument.
    """
    renamed = {name: name for name in names} | renamed
    try:
        yield
    except ConfigError as error:
        argument, is_argument, rest = str(error).partition("=")
        if not is_argument or argument not in renamed:
            raise
        raise ConfigError(f"--{renamed[argument]}={rest}") from error


def local_file(flag: str, value: str | None, ending: str) -> str | None:
    """Returns a path on this machine, absolute; raises a ConfigError unless it ends as files of its kind do."""
    from jaxgan.core.files import as_path

    require(value is None or value.endswith(ending), flag, value, f"name a FILE{ending}")
    return value and str(as_path(value, flag, local=True, new=bool(ending)))


def run(main: Command) -> None:
    """Runs a command on this process's arguments and exits with its status."""
    ctrl_c_ends_at_once()
    sys.stdout, sys.stderr = _Unbroken(sys.stdout), _Unbroken(sys.stderr)
    _speak_in_lines()
    status = main(sys.argv[1:], functools.partial(_prepare_process, main.cpu_devices))
    if status:  # an orderly exit would wait for what threads read, and for other processes, which wait for this one
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _speak_in_lines() -> None:
    """Makes the warnings of all libraries lines like our own; less than a warning is not for the console."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    for level in (logging.WARNING, logging.ERROR):
        logging.addLevelName(level, logging.getLevelName(level).lower())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    absl_logging.set_verbosity(absl_logging.WARNING)

    def show(message, category, filename, lineno, file=None, line=None):
        print(f"warning: {message}", file=sys.stderr, flush=True)

    warnings.showwarning = show


def _prepare_process(cpu_devices: int) -> None:
    """Sets what holds for the whole of a process: the compilation cache, the allocator, the devices of a CPU."""
    if not cpu_devices:
        return
    from jaxgan.core import compilation_cache, memory, processes

    logging.getLogger("jax").handlers.clear()  # JAX 0.7 has one of its own, which would say everything twice
    compilation_cache.keep_compiled()
    memory.retain_freed()
    processes.divide_cpu(cpu_devices)
    ctrl_c_raises()


class _Unbroken:
    """Wraps a stream so that a run goes on when nobody reads any more, as after `jaxgan train ... | head`."""

    def __init__(self, stream: TextIO | None):
        # A daemon may have closed it: what is said goes nowhere then.
        self._stream = stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or 0

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, function: Callable, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal is closed
                raise
            # From now on all of it goes nowhere, also what Python flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _read_config(name: str):
    from jaxgan.settings import require_settings

    config = config_files.config(name)
    require_settings(config, f"--config={name}")
    return config


def _override(config, arguments: Sequence[str], known_flags: flags.FlagValues) -> list[str]:
    """Sets each --config.KEY=VALUE in `config` and returns the arguments that are none."""
    from jaxgan.settings import default_config, flatten, unknown_key

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
        setting, _, reason = str(error).removeprefix("flag ").partition(": ")
        kinds = {"int()": "must be a whole number", "to float": "must be a number", "-boolean": "must be True or False"}
        return f"{setting}: {next((right for sign, right in kinds.items() if sign in reason), reason)}"
    from jaxgan.settings import default_config, flatten

    name, settings = error.flagname, flatten(default_config()) if "config" in known_flags else ()
    inside = [f"config.{key}" for key in settings if key.rpartition(".")[2] == name]
    near = f"; nearest: --{', --'.join(inside)}" if inside else nearest(name, known_flags, "--")
    return f"--{name} does not exist{near}"
