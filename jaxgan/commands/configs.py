"""Lists the packaged configs, with their cost and score: jaxgan configs

jaxgan train --config=NAME --settings lists all settings of one, and --dry_run says what it would take.
"""

from absl import flags

from jaxgan import config_files
from jaxgan.commands import app

FLAGS = flags.FlagValues()


@app.command(FLAGS, cpu_devices=0)
def main(flags) -> None:
    for name, file in config_files.packaged().items():
        sentence, cost, score = config_files.describe(file)
        print(f"{name}: {sentence}" + f"\n    {cost}; {score}" * bool(cost))
