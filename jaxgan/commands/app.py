"""What the commands share: flags, one-line errors with exit code 2, the compilation cache."""

import os
import pathlib
import re
import sys

import jax
from absl import app, flags, logging

from jaxgan.core import memory
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.settings import default_config, flatten, unknown_key


def fail(message, status: int = 2) -> None:
    """Print one line and exit: 2 for bad input, 1 for a run that failed."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    if jax.distributed.is_initialized():
        os._exit(status)  # an orderly exit would wait for the other processes, which wait for this one
    sys.exit(status)


def _parse(argv: list[str]) -> list[str]:
    """absl's parser, with a clear line for everything that it does not accept."""
    known = flatten(default_config())
    for key in re.findall(r"^--?(?:no)?config\.([^=\s]+)", "\n".join(argv), re.MULTILINE):
        if key not in known:
            fail(unknown_key(key, known))
    try:
        left_over = flags.FLAGS(argv)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError, SyntaxError) as error:
        fail(error)
    if left_over:
        fail(f"arguments that mean nothing here: {' '.join(left_over)} (settings are written --config.KEY=VALUE)")
    return argv[:1]


def cache_compilations() -> None:
    """Keep compiled programs between runs, in the user's cache unless JAX_COMPILATION_CACHE_DIR says otherwise."""
    if not jax.config.jax_compilation_cache_dir:
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "jaxgan" / "xla"))


def use_two_cpu_devices() -> None:
    """Make a CPU two devices unless JAX_NUM_CPU_DEVICES says otherwise, before jax is used.

    One computes while the other is in what XLA does on one core: Inception is 1.2 times as fast.
    """
    if jax.config.jax_num_cpu_devices < 0:
        jax.config.update("jax_num_cpu_devices", 2)


def run(main) -> None:
    """Parse the flags, call `main()`, and exit with the status that it returns."""

    def guarded(_):
        logging.set_verbosity(logging.WARNING)  # the console is the program's own
        cache_compilations()
        memory.keep_freed()
        try:
            return main()
        except ConfigError as error:
            fail(error)
        except KeyboardInterrupt:  # before or after training, which has an answer of its own
            fail("interrupted", status=130)
        except (RunFailed, OSError) as error:  # OSError: a disk that is full, a damaged checkpoint, a broken image
            fail(error, status=1)

    app.run(guarded, flags_parser=_parse)
