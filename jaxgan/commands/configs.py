"""Lists the packaged configs, with their size, length and published FID: jaxgan configs

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
        config, (sentence, fid) = config_files.config(name), config_files.describe(file)
        size = size_in_words(config.data.image_size)
        numbers = f"{name:20}  {size:8} batch {config.batch_size:<4} {config.train_kimg:>9,g} kimg"
        print(numbers + f"   published FID {fid}" * bool(fid))
        print(f"  {sentence}")
