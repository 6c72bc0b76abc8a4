"""Lists the packaged configs, with their size, length, cost and score: jaxgan configs

jaxgan train --config=NAME --settings lists all settings of one, and --dry_run says what it would take.
"""

from absl import flags

from jaxgan import config_files
from jaxgan.commands import app
from jaxgan.core.shapes import size_in_words

FLAGS = flags.FlagValues()


@app.command(FLAGS)
def main(flags) -> None:
    for name, file in config_files.packaged().items():
        config, (sentence, cost, score) = config_files.config(name), config_files.describe(file)
        print(f"{name}: {sentence}")
        size = size_in_words(config.data.image_size)
        print(f"    {size}, batch {config.batch_size}, {config.train_kimg:,g} kimg" + f"; {cost}; {score}" * bool(cost))
