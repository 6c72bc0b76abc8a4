"""Scores of a run or of anyone's images: python -m jaxgan.evaluate --workdir=RUN --metrics=fid,is,kid,prdc

    --step=N|best|all                     which checkpoints; the newest if not given
    --images=DIR|FILE.npz                 instead of --workdir: evaluate these
    --real=DIR|FILE.npz|NAME              compare with these, or with a set of tensorflow-datasets
    --protocol=A|B|C|compare_gan          the field's protocols, see PROTOCOLS; --num, --split, ... change one thing,
                                          and the table says so
    --inception_weights=FILE              weights that are already here

A table for people, then one line of JSON; both carry the protocol. With --workdir the line is also added to
`scores.jsonl` there.
"""

import json
import math
import pathlib

import numpy as np
from absl import flags

from jaxgan import data
from jaxgan.commands import app as cli
from jaxgan.core.errors import ConfigError
from jaxgan.evaluation.evaluator import METRICS, Evaluator, Protocol
from jaxgan.settings import default_config, images_per_step

# What papers quote (StudioGAN; mimicry; NVIDIA's fid50k_full; compare_gan), and the step that each takes. Their
# Inception is `inception` here. StudioGAN draws the sizes of its standing statistics' batches, which are all 64 here.
PROTOCOLS = {
    "A": (Protocol(is_splits=1, standing_batches=16), "best"),
    "B": (Protocol(), None),
    "C": (Protocol(), None),
    "compare_gan": (Protocol(num=10_000, num_real=10_000, split="test"), None),
}

PAIRS = 32  # in the picture of neighbours

_WORKDIR = flags.DEFINE_string("workdir", None, "Run, checkpoint directory or checkpoint whose EMA generator to score.")
_IMAGES = flags.DEFINE_string("images", None, "DIR or FILE.npz of images to score instead.")
_REAL = flags.DEFINE_string("real", None, "DIR, FILE.npz or tfds name to compare with; the run's own set if not given.")
_METRICS = flags.DEFINE_list("metrics", None, f"Some of {', '.join(METRICS)}; the run's own if not given.")
_STEP = flags.DEFINE_string("step", None, "N, best (by the run's config.checkpoint.best_metric) or all.")
_SIGMA_REL = flags.DEFINE_float("sigma_rel", None, "Width of the average, after the fact; see config.ema.posthoc.")
_PROTOCOL = flags.DEFINE_enum("protocol", "C", list(PROTOCOLS), "Of a paper to compare with.")
_NUM = flags.DEFINE_integer("num", None, "How many fakes; with --images all of them if not given.", lower_bound=2)
_NUM_REAL = flags.DEFINE_integer("num_real", None, "How many reals, evenly over the set; 0: all.", lower_bound=0)
_SPLIT = flags.DEFINE_string("split", None, "Which part of the reals.")
_FLIPS = flags.DEFINE_bool("flips", None, "Count every real a second time, mirrored.")
_IS_SPLITS = flags.DEFINE_integer("is_splits", None, "Parts that the inception score is averaged over.", lower_bound=1)
_STANDING = flags.DEFINE_integer(
    "standing_batches", None, "Batches of 64 to measure batch norm's statistics on anew; 0: the running ones.", 0
)
_SEED = flags.DEFINE_integer("seed", None, "Of the samples, and of the subsets of fid_infinity.", 0, 2**31 - 1)
_INCEPTION = flags.DEFINE_string("inception_weights", "", "File of the FID Inception's weights.")
_DINOV2 = flags.DEFINE_string("dinov2_weights", "", "File of DINOv2's weights.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where tfds keeps its sets.")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Holds cifar-10-binary.tar.gz, for machines without a network.")
_VERIFY = flags.DEFINE_bool("verify_checksum", None, "False: accept an archive that is not the official one.")
_NEIGHBOURS = flags.DEFINE_string("neighbours", None, "FILE.png: the fakes nearest to a real, each beside that real.")


def _named(protocol: Protocol, step: str | None) -> dict[str, str]:
    """The name of the protocol, and what the flags have changed in it."""
    whole, at = PROTOCOLS[_PROTOCOL.value]
    used, meant = protocol._asdict() | {"step": step}, whole._asdict() | {"step": at}
    changed = [f"{name}={value}" for name, value in used.items() if value != meant[name]]
    return {"protocol": _PROTOCOL.value + f" but {', '.join(changed)}" * bool(changed)}


def _protocol() -> tuple[Protocol, str | None]:
    """The protocol that the flags describe, and which step to take."""
    protocol, step = PROTOCOLS[_PROTOCOL.value]
    given = dict(
        num=_NUM.value, num_real=_NUM_REAL.value, split=_SPLIT.value, flips=_FLIPS.value,
        is_splits=_IS_SPLITS.value, seed=_SEED.value, standing_batches=_STANDING.value,
    )  # fmt: skip
    protocol = protocol._replace(**{name: value for name, value in given.items() if value is not None})
    return protocol, _STEP.value or step


def _open_reals(run_data, split: str, size: int) -> tuple[data.Dataset, str]:
    """The set to compare with and its name; `run_data` is config.data of the run, if it is one."""
    name = _REAL.value
    if name and (name.endswith(".npz") or pathlib.Path(name).is_dir()):
        return data.open_images(name, "--real"), name
    if not name and run_data is None:
        raise ConfigError("--real is not given: name the DIR, FILE.npz or tfds set to compare the images with")
    settings = default_config().data if run_data is None else run_data.copy_and_resolve_references()
    settings.name, settings.image_size = name or settings.name, size
    for key, value in (("dir", _DATA_DIR.value), ("manual_dir", _MANUAL_DIR.value), ("verify_checksum", _VERIFY.value)):
        if value is not None:
            settings[key] = value
    settings.split = split
    return data.load(settings), settings.name


def _checkpoints(step: str | None) -> list[tuple[int | None, str]]:
    """Which steps to evaluate, None for the newest undamaged one, and the rule that chose them, in words."""
    from jaxgan.core import checkpoint

    if step is None:
        return [(None, "the last")]
    if step.isdecimal():
        return [(int(step), "as asked")]
    if step not in ("best", "all"):
        raise ConfigError(f"--step={step}: give a number, best or all")
    directory, steps = checkpoint.find(_WORKDIR.value)
    if step == "all":
        return [(s, "all") for s in steps]
    best, rule = checkpoint.best_step(directory, steps)
    return [(best, rule)]


def main() -> int:
    """Evaluate what the flags say."""
    if bool(_WORKDIR.value) == bool(_IMAGES.value):
        raise ConfigError("give either --workdir=RUN or --images=DIR|FILE.npz")
    protocol, step = _protocol()
    given = data.open_images(_IMAGES.value, "--images") if _IMAGES.value else None
    if given is not None:
        run, size = None, given.image_shape[0]
        if _NUM.value is None:
            protocol = protocol._replace(num=len(given))
        if _STEP.value:
            raise ConfigError(f"--step={_STEP.value}: --images have no steps")
        if _STANDING.value is not None:
            raise ConfigError(f"--standing_batches={_STANDING.value}: --images have no batch norm")
        if _SIGMA_REL.value is not None:
            raise ConfigError(f"--sigma_rel={_SIGMA_REL.value}: --images have no average")
    else:
        from jaxgan.sampling.generator import load

        try:
            checkpoints = _checkpoints(step)
            run = load(_WORKDIR.value, checkpoints[0][0], _SIGMA_REL.value)
        except (ValueError, OSError) as error:
            raise ConfigError(error) from error
        size = run.config.data.image_size
        if _STANDING.value and not run.has_batch_norm:
            raise ConfigError(
                f"--standing_batches={_STANDING.value}: {run.config.model.name} has no batch norm; give 0"
            )
    names = _METRICS.value or (list(run.config.eval.metrics) if run else [])
    if not names:
        raise ConfigError(f"--metrics is not given: choose from {', '.join(METRICS)}")
    weights = {"inception": _INCEPTION.value, "dinov2": _DINOV2.value}
    evaluator = Evaluator(names, protocol, weights)
    if evaluator.needs_reals or _NEIGHBOURS.value or (run and run.num_classes):
        evaluator.compare_with(*_open_reals(run.config.data if run else None, protocol.split, size))

    evaluator.check(given)
    named = _named(protocol, PROTOCOLS[_PROTOCOL.value][1] if given else step)
    if given is not None:
        scores = evaluator.score_images(given)
        report({"images": _IMAGES.value}, scores, named | evaluator.describe())
        if _NEIGHBOURS.value:
            draw_neighbours(evaluator, lambda indices: given.get(indices)[0])
        return 0
    for number, rule in checkpoints:
        generator = run if number in (None, run.step) else load(_WORKDIR.value, number, _SIGMA_REL.value)
        scores = evaluator.score_generator(generator)
        fakes = {
            "checkpoint": rule,
            "ema": _average(generator.config.ema) + ", after the fact" * (_SIGMA_REL.value is not None),
            "batch_statistics": _statistics(generator, protocol),
            "truncation": "none",
            "labels": "drawn from those of the reals" if generator.num_classes else "none",
        }
        kimg = generator.step * images_per_step(generator.config) / 1e3
        what = {"run": _WORKDIR.value, "step": generator.step, "kimg": kimg}
        report(what, scores, named | evaluator.describe() | fakes)
    if _NEIGHBOURS.value:
        draw_neighbours(evaluator, lambda indices: evaluator.samples(generator, indices))
    return 0


def _statistics(generator, protocol: Protocol) -> str:
    """Of batch norm, in words."""
    if not generator.has_batch_norm:
        return "none"
    return f"standing, {protocol.standing_batches} x 64" if protocol.standing_batches else "running"


def _average(ema) -> str:
    """The moving average of a run, in words."""
    if ema.sigma_rel:
        return f"power function, sigma_rel {ema.sigma_rel:g}"
    if ema.half_life_kimg_schedule != "constant":
        return f"half-life {ema.half_life_kimg:g} kimg, {ema.half_life_kimg_schedule}"
    return f"half-life {ema.half_life_kimg:g} kimg" if ema.half_life_kimg else "none"


def report(what: dict, scores: dict[str, float], protocol: dict) -> None:
    """Print the table and the line of JSON, and keep the line beside the run."""
    print(table(what, scores, protocol))
    known = {name: value if math.isfinite(value) else None for name, value in scores.items()}  # JSON has no NaN
    line = json.dumps(what | {"scores": known, "protocol": protocol})
    print(line, flush=True)
    if _WORKDIR.value and pathlib.Path(_WORKDIR.value).is_dir():
        with open(pathlib.Path(_WORKDIR.value, "scores.jsonl"), "a") as file:
            file.write(line + "\n")


def table(what: dict, scores: dict[str, float], protocol: dict) -> str:
    """The scores, a row each, and the protocol below them."""
    title = "  ".join(value if isinstance(value, str) else f"{name} {value:,g}" for name, value in what.items())
    rows = {}
    for name, value in scores.items():
        if not name.endswith("_std"):
            spread = scores.get(f"{name}_std")
            rows[name] = f"{value:.5g}" + ("" if spread is None else f" +- {spread:.2g}")
    for name, value in protocol.items():
        if isinstance(value, dict):
            rows |= {key: f"weights {e['weights'][:8]}, {e['resize']}" for key, e in value.items()}
        else:
            rows[name] = f"{value:,}" if type(value) is int else str(value)
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {name:{width}}  {value}" for name, value in rows.items())])


def draw_neighbours(evaluator: Evaluator, images_of) -> None:
    """A grid of the fakes that are nearest to a real, nearest first, each beside that real."""
    from jaxgan.training import plots

    fakes, reals = evaluator.neighbours(PAIRS)
    pairs = np.stack([images_of(fakes), evaluator.reals.get(reals)[0]], axis=1)
    plots.save_png(_NEIGHBOURS.value, plots.grid(pairs.reshape(-1, *pairs.shape[2:]), 8))
    print(f"{len(fakes)} fakes, each beside its nearest real: {_NEIGHBOURS.value}")


if __name__ == "__main__":
    cli.use_two_cpu_devices()
    cli.run(main)
