"""Images from a trained generator: python -m jaxgan.sample --workdir=RUN --out=FILE.png|FILE.npz|DIR

--num=64 --seed=0 --labels=3 (or 3,5,7: one after the other) --interpolate (rows that walk from one image to another)
--truncation=0.7 (typical images instead of varied ones)
"""

import math
import pathlib

import numpy as np
from absl import flags

from jaxgan import cli
from jaxgan.config import ConfigError
from jaxgan.generator import load

_WORKDIR = flags.DEFINE_string("workdir", None, "Run, checkpoint directory or checkpoint to sample from.")
_OUT = flags.DEFINE_string("out", None, "FILE.png (one grid), FILE.npz (arrays images and labels) or DIR (a PNG each).")
_NUM = flags.DEFINE_integer("num", 64, "How many images; with --interpolate, how many rows.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Image i is a function of the seed and i.", 0, 2**31 - 1)
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest undamaged one if not given.")
_LABELS = flags.DEFINE_list("labels", None, "Classes, repeated in order until all images have one.")
_INTERPOLATE = flags.DEFINE_bool("interpolate", False, "Rows that walk from one image to another.")
_TRUNCATION = flags.DEFINE_float(
    "truncation", None, "Less variety: psi below 1 where the net has styles, elsewhere the bound of latents, such as 1."
)
_COLUMNS = flags.DEFINE_integer("columns", 0, "Images in a row of the grid; 0: square, 10 with --interpolate.", 0)


def main() -> int:
    from jaxgan import plots

    out, num = pathlib.Path(_OUT.value), _NUM.value
    if out.suffix not in ("", ".png", ".npz"):
        raise ConfigError(f"--out={out}: name a FILE.png, a FILE.npz or a directory")
    columns = _COLUMNS.value or (10 if _INTERPOLATE.value else math.ceil(num**0.5))
    try:
        generator = load(_WORKDIR.value, _STEP.value)
        labels = _LABELS.value and np.resize([int(label) for label in _LABELS.value], num)
        if _INTERPOLATE.value:
            images = generator.interpolate(num, columns, _SEED.value, labels, _TRUNCATION.value)
        else:
            if labels is None:
                labels = generator.latents(num, _SEED.value)[1] if generator.num_classes else None
            images = generator.sample(num, _SEED.value, labels, _TRUNCATION.value)
    except (ValueError, OSError) as error:
        raise ConfigError(error) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        labels = np.zeros(num, int) if labels is None else np.asarray(labels)
        np.savez(out, images=images, **({} if _INTERPOLATE.value else {"labels": labels}))
    elif out.suffix == ".png":
        plots.save_png(out, plots.grid(images, columns))
    else:
        out.mkdir(exist_ok=True)
        for i, image in enumerate(images):
            plots.save_png(out / f"{i:06d}.png", image)
    print(f"{len(images)} images of {generator} in {out}")
    return 0


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "out"])
    cli.run(main)
