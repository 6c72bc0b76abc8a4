"""Train a GAN: python -m jaxgan.main --config=configs/cifar.py [--workdir=DIR] [--config.KEY=VALUE ...]

The same command again resumes the run.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from jaxgan.commands import app as cli
from jaxgan.core.errors import ConfigError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, such as configs/cifar.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; runs/<config name> if not given.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0; TPU pods need none of these three.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes train together.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.")
flags.mark_flag_as_required("config")


def main() -> int:
    from jaxgan.core import parallel
    from jaxgan.training import loop as train

    path = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0])
    if not path.is_file():
        raise ConfigError(f"--config={path}: there is no such file")
    parallel.start_processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    return train.train(_CONFIG.value, _WORKDIR.value or f"runs/{path.stem}")


if __name__ == "__main__":
    cli.run(main)
