"""Trains a GAN: jaxgan train --config=cifar [--workdir=DIR] [--config.KEY=VALUE ...]

The same command again resumes the run.
"""

import pathlib

from absl import flags

from jaxgan.commands import app
from jaxgan.config_files import split_variant

FLAGS = flags.FlagValues()
flags.DEFINE_string("config", None, "A packaged config, such as cifar or cifar:unconditional, or FILE.py.", FLAGS)
flags.DEFINE_string("workdir", None, "Where the run lives; runs/<config name> if not given.", FLAGS)
flags.DEFINE_string("coordinator", "", "host:port of process 0; launchers need none of these three.", FLAGS)
flags.DEFINE_integer("processes", 0, "How many processes train together; 1: this one alone.", flag_values=FLAGS)
flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.", flag_values=FLAGS)
flags.DEFINE_integer("heartbeat", 8, "After how many silent seconds a process is lost.", flag_values=FLAGS)


def less_memory(error, flags, config) -> str:
    """Returns what a run that had not enough memory may do with less."""
    from jaxgan.core.failures import wanted_bytes
    from jaxgan.gan.recipe import recipe_from_config
    from jaxgan.planning import memory

    return memory.less_memory(recipe_from_config(config), wanted_bytes(error))


@app.command(FLAGS, required=["config"], less_memory=less_memory)
def main(flags, config) -> int:
    from jaxgan.core import processes
    from jaxgan.training import loop

    if flags.workdir is None:
        flags.workdir = f"runs/{pathlib.Path(split_variant(flags.config)[0]).stem}"
    with processes.joined(flags.coordinator, flags.processes, flags.process_id, flags.heartbeat):
        processes.require_devices()
        with app.naming_flags(FLAGS):
            return loop.train(config, flags.workdir)
