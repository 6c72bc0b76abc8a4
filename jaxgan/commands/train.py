"""Trains a GAN: jaxgan train --config=cifar [--workdir=DIR] [--config.KEY=VALUE ...]

The same command again resumes the run, and so does jaxgan train --workdir=DIR, with the settings of the run.
"""

import pathlib

from absl import flags

from jaxgan.commands import app
from jaxgan.config_files import split_variant
from jaxgan.core.errors import ConfigError, require
from jaxgan.core.files import as_path
from jaxgan.core.shell import command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string("config", None, "A packaged config, such as cifar or cifar:unconditional, or FILE.py.", FLAGS)
flags.DEFINE_string("workdir", None, "Where the run lives; runs/<config name> if not given.", FLAGS)
flags.DEFINE_string("coordinator", "", "host:port of process 0; launchers need none of these three.", FLAGS)
flags.DEFINE_integer("processes", 0, "How many processes train together; 1: this one alone.", flag_values=FLAGS)
flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.", flag_values=FLAGS)
flags.DEFINE_integer("heartbeat", 8, "Seconds of silence after which a process counts as lost.", flag_values=FLAGS)
flags.DEFINE_bool("dry_run", False, "Check the settings and print what the run takes; write nothing.", FLAGS)
AGAIN = "no step was under way, so nothing is lost: run the same command again"


def less_memory(error, flags, config) -> str:
    """Returns what a run that had not enough memory may do with less."""
    from jaxgan.core.failures import wanted_bytes
    from jaxgan.gan.recipe import recipe_from_config
    from jaxgan.planning import memory

    return memory.less_memory(recipe_from_config(config), wanted_bytes(error))


def first_line(flags, settings) -> str:
    """Returns the whole command, --workdir included, which starts the same run elsewhere and resumes it here."""
    if flags.config and not flags.workdir:
        flags.workdir = f"runs/{pathlib.Path(split_variant(flags.config)[0]).stem}"
    given = [f"--{name}={flags[name].value}" for name in FLAGS if flags[name].value != flags[name].default]
    return command_line("train", *given, *settings)


def saved_config(flags):
    """Returns the config of the run in --workdir."""
    from jaxgan.settings import read

    if not flags.workdir:
        raise ConfigError(f"--config is not given: {FLAGS['config'].help} To resume a run, --workdir is enough.")
    file = as_path(flags.workdir, "--workdir", local=True) / "config.json"
    require(file.is_file(), "--workdir", flags.workdir, "no run is there to resume: give --config too")
    config = read(file)
    config.checkpoint.allow_config_change = False  # a permission for the start that it was given to
    return config


@app.command(FLAGS, less_memory=less_memory, first_line=first_line, saved_config=saved_config, if_interrupted=AGAIN)
def main(flags, config) -> int | None:
    import jax

    from jaxgan.core import memory, processes

    with processes.joined(flags.coordinator, flags.processes, flags.process_id, flags.heartbeat):
        processes.require_devices(config.cpu_devices)
        if jax.process_index() == 0:
            print(processes.describe_devices(), flush=True)
        from jaxgan.gan.recipe import recipe_from_config
        from jaxgan.planning import size
        from jaxgan.training import loop, resume

        with app.naming_flags(FLAGS):
            if not flags.dry_run:
                return loop.train(config, flags.workdir)
            recipe, devices = recipe_from_config(config), jax.devices()
            loop.check(config, recipe, len(devices))
            recipe = size.divide(recipe, config.accumulate, len(devices), memory.device_bytes(jax.local_devices()[0]))
            changed = resume.changes_on_resume(config, as_path(flags.workdir, "workdir", local=True))
            print(*changed, size.report(recipe, config.train_kimg, devices, config.eval.metrics), sep="\n")
            return print("The images were not looked at; classes are those that the config knows of.")
