"""Trains a GAN: jaxgan train --config=cifar [--workdir=DIR] [--config.KEY=VALUE ...]

The same command again resumes the run.
"""

from absl import flags

from jaxgan.commands import app

FLAGS = flags.FlagValues()
flags.DEFINE_string("config", None, "A packaged config, such as cifar or cifar:unconditional, or FILE.py.", FLAGS)
flags.DEFINE_string("workdir", None, "Where the run lives; runs/<config name> if not given.", FLAGS)
flags.DEFINE_string("coordinator", "", "host:port of process 0; launchers need none of these three.", FLAGS)
flags.DEFINE_integer("processes", 0, "How many processes train together; 1: this one alone.", flag_values=FLAGS)
flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.", flag_values=FLAGS)
flags.DEFINE_integer("heartbeat", 8, "After how many silent seconds a process is lost.", flag_values=FLAGS)


@app.command(FLAGS, required=["config"])
def main(flags, config) -> int:
    from jaxgan.core import processes
    from jaxgan.training import loop

    name = flags.config.partition(":")[0].rpartition("/")[2].removesuffix(".py")
    with processes.joined(flags.coordinator, flags.processes, flags.process_id, flags.heartbeat):
        processes.require_devices()
        return loop.train(config, flags.workdir or f"runs/{name}")
