"""Images from a trained generator: python -m jaxgan.sample --workdir=RUN --out=FILE.png|FILE.npz|DIR

--num=64 --seed=0 --labels=3 (or 3,5,7: one after the other) --truncation=0.7 (typical images instead of varied ones)

Or one of

--per_class            rows with a class in each column
--interpolate          rows that walk from one image to another; --space=w: by their styles
--sefa=6               rows that walk along a semantic direction (--extent=3, --layers=0,1,2,3)
--project=FILE|DIR     images and, beside each, the nearest that the generator can make (--steps=500)
"""

import math
import pathlib

import numpy as np
from absl import flags

from jaxgan.commands import app as cli
from jaxgan.core.errors import ConfigError
from jaxgan.data import decoding as decode
from jaxgan.data.folder import SUFFIXES
from jaxgan.sampling.generator import Generator, load

_WORKDIR = flags.DEFINE_string("workdir", None, "Run, checkpoint directory or checkpoint to sample from.")
_OUT = flags.DEFINE_string("out", None, "FILE.png (one grid), FILE.npz (arrays images and labels) or DIR (a PNG each).")
_NUM = flags.DEFINE_integer("num", 64, "How many images; with --per_class or --interpolate, how many rows.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Image i is a function of the seed and i.", 0, 2**31 - 1)
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest undamaged one if not given.")
_SIGMA_REL = flags.DEFINE_float("sigma_rel", None, "Width of the average, after the fact; see config.ema.posthoc.")
_LABELS = flags.DEFINE_list("labels", None, "Classes, repeated in order until all images have one.")
_TRUNCATION = flags.DEFINE_float(
    "truncation", None, "Less variety: psi below 1 where the net has styles, elsewhere the bound of latents, such as 1."
)
_COLUMNS = flags.DEFINE_integer("columns", 0, "Images in a row of the grid; 0: as suits what is in it.", 0)
_PER_CLASS = flags.DEFINE_bool("per_class", False, "Rows with a class in each column.")
_INTERPOLATE = flags.DEFINE_bool("interpolate", False, "Rows that walk from one image to another.")
_SPACE = flags.DEFINE_enum("space", "z", ["z", "w"], "With --interpolate: of latents or, where there are any, styles.")
_SEFA = flags.DEFINE_integer("sefa", None, "How many semantic directions to walk along, a row each.", 1)
_EXTENT = flags.DEFINE_float("extent", 3.0, "With --sefa: how far, to both sides.")
_LAYERS = flags.DEFINE_list("layers", None, "With --sefa: which styles move, 0 the coarsest; all if not given.")
_PROJECT = flags.DEFINE_string("project", None, "Image, or directory of images, to find latents of.")
_STEPS = flags.DEFINE_integer("steps", 500, "With --project: of the search.", 0)

MODES = {"per_class": _PER_CLASS, "interpolate": _INTERPOLATE, "sefa": _SEFA, "project": _PROJECT}
ONLY_WITH = {"space": "interpolate", "extent": "sefa", "layers": "sefa", "steps": "project"}


def _mode() -> str:
    """Which of `MODES` is asked for, or ""."""
    given = [name for name, flag in MODES.items() if flag.value]
    if len(given) > 1:
        raise ConfigError(f"--{given[0]} and --{given[1]}: give one of them")
    mode = "".join(given)
    for name, needed in ONLY_WITH.items():
        if flags.FLAGS[name].present and mode != needed:
            raise ConfigError(f"--{name} goes with --{needed}")
    for name, excluded in (("labels", "per_class"), ("truncation", "project"), ("num", "sefa"), ("num", "project")):
        if flags.FLAGS[name].present and mode == excluded:
            raise ConfigError(f"--{name} means nothing with --{excluded}")
    return mode


def _targets(path: pathlib.Path, size: int, channels: int) -> np.ndarray:
    """The image or the images of a directory, by name, uint8 [n, size, size, channels]: cropped and resized."""
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"--project={path}: holds no image ({', '.join(SUFFIXES)})")
    return np.stack([decode.decode(file, size, channels) for file in files])


def _make(generator: Generator, mode: str) -> tuple[dict[str, np.ndarray], int]:
    """The arrays that an .npz is to hold, first of all the images, and how many of these suit a row."""
    from jaxgan.sampling import latents

    num, seed, truncation = _NUM.value, _SEED.value, _TRUNCATION.value
    given = _LABELS.value and [int(label) for label in _LABELS.value]
    if mode == "interpolate":
        columns = _COLUMNS.value or 10
        labels = given and np.resize(given, num)
        return {"images": generator.interpolate(num, columns, seed, labels, truncation, _SPACE.value)}, columns
    if mode == "sefa":
        columns = _COLUMNS.value or 7
        layers = _LAYERS.value and [int(layer) for layer in _LAYERS.value]
        along, strengths = latents.directions(generator, _SEFA.value, layers)
        images = latents.walk(
            generator, along, columns, extent=_EXTENT.value, seed=seed, label=given,
            truncation=truncation, layers=layers,
        )  # fmt: skip
        return {"images": images, "directions": along, "strengths": strengths}, columns
    if mode == "project":
        shape = generator.config.data.image_size, generator.config.data.channels
        targets = _targets(pathlib.Path(_PROJECT.value), *shape)
        labels = given and np.resize(given, len(targets))
        found = latents.project(generator, targets, _STEPS.value, seed=seed, labels=labels)
        pairs = np.stack([targets, found.images], axis=1).reshape(-1, *targets.shape[1:])
        arrays = {"latents": found.latents, "labels": found.labels, "distances": found.distances}
        return {"images": pairs} | arrays, _COLUMNS.value or 2
    if mode == "per_class":
        columns = _COLUMNS.value or max(generator.num_classes, 1)
        labels = generator.class_columns(num, columns)
    else:
        columns = _COLUMNS.value or math.ceil(num**0.5)
        labels = given and np.resize(given, num)
    z, labels, *rest = generator.inputs(num if mode == "" else len(labels), seed, labels, truncation)
    return {"images": generator.decode(z, labels, *rest), "labels": np.asarray(labels)}, columns


def main() -> int:
    from jaxgan.training import plots

    out, mode = pathlib.Path(_OUT.value), _mode()
    if out.suffix not in ("", ".png", ".npz"):
        raise ConfigError(f"--out={out}: name a FILE.png, a FILE.npz or a directory")
    try:
        generator = load(_WORKDIR.value, _STEP.value, _SIGMA_REL.value)
        arrays, columns = _make(generator, mode)
    except (ValueError, OSError) as error:
        raise ConfigError(error) from error
    images = arrays["images"]
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez(out, **arrays)
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
