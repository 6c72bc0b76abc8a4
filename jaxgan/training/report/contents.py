"""What a report shows of a run, read from the files of its workdir."""

import functools
import json
import math
import re
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxgan import config_files
from jaxgan.core.errors import RunFailed, require
from jaxgan.core.files import announce, as_path, is_held, read_json
from jaxgan.core.shapes import height_width, size_in_words
from jaxgan.core.shell import from_here
from jaxgan.core.words import counted, format_duration
from jaxgan.data import DataSpec
from jaxgan.evaluation import METRICS
from jaxgan.settings import default_config, flatten, images_per_step, steps
from jaxgan.settings import read as read_config
from jaxgan.training import panels
from jaxgan.training.history import History
from jaxgan.training.log import read_metrics, read_warnings
from jaxgan.training.report import frames

ABOUT = "about.json"  # what a run is made of and runs on, beside its settings
HELD_OUT = "held_out.json"  # what held-out real images score, and by what protocol
SHARE = 0.9  # of the bytes for pictures that are for the slider


def contents(workdir, history: History | None = None, *, status: str = "", budget: float = 3e6) -> dict:
    """Returns all that a report shows of a run, as JSON holds it.

    Args:
      workdir: a run; without metrics there is only what it is going to do.
      history: of the run while it trains; None: that of its metrics.jsonl.
      status: what the run is doing, "running" or how it ended; "": as far as its log says and whether a process has it.
      budget: bytes for pictures.

    Raises:
      ConfigError: no run is there.
      RunFailed: a file of it is damaged.
    """
    workdir = as_path(workdir, "RUN", local=True)
    config_file = workdir / "config.json"
    require(config_file.is_file(), "RUN", str(workdir), "no run is there (no config.json)")
    config, spec = read_config(config_file), DataSpec(**read_json(workdir / "data.json"))
    about = read_json(workdir / ABOUT) if (workdir / ABOUT).exists() else {}
    if history is None:
        log = workdir / "metrics.jsonl"
        history = History(read_metrics(log) if log.exists() else ())
    lines = history.lines(even=True)
    kimg = max((line["kimg"] for line in lines), default=0.0)
    total = steps(config, config.train_kimg) * images_per_step(config) / 1e3
    seconds = max((line["perf/seconds"] for line in lines if "perf/seconds" in line), default=math.nan)
    base, changes = nearest_config(config)
    return {
        "name": workdir.name,
        "title": f"{config.model.name}, {config.loss} loss, on {config.data.name}",
        "status": status or ("running" if is_held(workdir) else "finished" if kimg >= total else "stopped"),
        "written": time.time(),
        "interval": (rate := _rate(lines)) and rate * config.sample.every_kimg,  # seconds from a report to the next
        "kimg": kimg,
        "total": total,
        "left": format_duration(rate * (total - kimg)) if rate and kimg < total else "",
        "seconds": seconds if seconds > 0 else None,
        "config": base + (f" with {counted(len(changes), 'change')}" if changes else ""),
        "facts": _facts(config, spec, about, lines, seconds),
        "scores": _scores(config, history, lines),
        "measured": _measured(workdir),
        "panels": _panels(lines, read_held_out(workdir)),
        "warnings": [warning for warning in read_warnings(workdir) if warning["kimg"] <= kimg],
        "grid": _grid(workdir, config, spec, budget),
        "classes": _classes(lines, spec),
        "neighbours": _neighbours(workdir),
        "settings": _settings(config),
        "command": _command(config, base, changes, workdir),
    }


def nearest_config(config) -> tuple[str, dict]:
    """Returns the packaged config that differs from `config` in the fewest settings, and these, {name: value}."""
    mine, nearest = flatten(config), None
    for name, other in _packaged().items():
        changes = {key: value for key, value in mine.items() if other.get(key) != value}
        if nearest is None or len(changes) < len(nearest[1]):
            nearest = name, changes
    return nearest


@functools.cache
def _packaged() -> dict[str, dict]:
    """Returns the settings of every packaged config; to read them takes longer than all else of a report."""
    return {name: flatten(config_files.config(name)) for name in config_files.packaged()}


def _command(config, base: str, changes: dict, workdir: Path) -> str:
    """Returns the line that trains such a run again; "" for images that no setting names."""
    if config.data.name == "custom":
        return ""
    typed = {key: ",".join(map(str, value)) if isinstance(value, tuple) else value for key, value in changes.items()}
    words = [f"--config.{key}={value}" for key, value in typed.items()]
    return shlex.join(["jaxgan", "train", f"--config={base}", f"--workdir={from_here(workdir)}", *words])


def _facts(config, spec: DataSpec, about: dict, lines: list[dict], seconds: float) -> list[list[str]]:
    """Returns what the run is, [[what, in words], ...]."""
    size, classes = size_in_words(spec.image_size).replace("x", "\u00d7"), spec.num_classes
    facts = {"images": f"{spec.num_images:,} of {size}" + (f", {classes:,} classes" if classes else "")}
    facts |= {key: f"{about[key]:,} parameters" for key in ("generator", "discriminator") if key in about}
    if "flops_per_image" in about:
        facts["cost"] = f"{about['flops_per_image'] / 1e9:,.3g} GFLOP an image"
    speeds = [line["perf/images_per_second"] for line in lines if "perf/images_per_second" in line]
    if speeds:
        speed = np.median(speeds[-20:])
        facts["speed"] = f"{speed:{',.0f' if speed >= 100 else '.3g'}} images a second"
    if seconds > 0:
        facts["trained for"] = format_duration(seconds)
    facts |= {key: about[key] for key in ("hardware", "software") if key in about}
    precision = "" if config.dtype == "float32" else f", {config.dtype}"
    facts["batch"] = f"{config.batch_size}{precision}, {counted(config.d_steps, 'D step')} for each G step"
    return [[name, str(text)] for name, text in (facts | {"seed": config.seed}).items()]


def _scores(config, history: History, lines: list[dict]) -> list[dict]:
    """Returns the scores of the log: the last one, the best one and where it is, and how they were made."""
    rows, last = [], history.last_scores()
    reals = f"{config.eval.num_reals:,} reals" if config.eval.num_reals else "all reals"
    protocol = f"{config.eval.num_samples:,} samples of seed 0, {reals} of {config.data.name}"
    for name, higher in panels.directions().items():
        if name in last and name in history.best:
            best, where = history.best[name][bool(higher)] if higher is not None else (None, None)
            row = {"name": name.removeprefix("eval/"), "higher": higher, "last": _finite(last[name]), "best": best}
            rows.append(row | {"where": where, "protocol": f"in training, of the EMA: {protocol}"})
    return rows


def _rate(lines: list[dict]) -> float | None:
    """Returns the seconds that a kimg takes, since the first line, before which the run compiled; None: unknown."""
    timed = [(line["perf/seconds"], line["kimg"]) for line in lines if "perf/seconds" in line]
    if len(timed) < 2 or timed[-1][1] <= timed[0][1]:
        return None
    (began, first), (now, kimg) = timed[0], timed[-1]
    return (now - began) / (kimg - first)


def _measured(workdir: Path) -> list[dict]:
    """Returns what `jaxgan evaluate` wrote of the run."""
    path = workdir / "scores.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]  # a kill may have torn the last one
    return [{key: record[key] for key in ("step", "kimg", "scores", "protocol")} for record in records]


def read_held_out(workdir: Path) -> panels.HeldOut:
    """Returns what is known of held-out real images, which may be nothing."""
    path, advice = workdir / HELD_OUT, "the next evaluation in the run writes it anew"
    try:
        if path.exists():
            read_json(path, "protocol", "held_out", "images", advice=advice)
            return panels.HeldOut(*(read_json(path, part, advice=advice) for part in panels.HeldOut._fields))
    except RunFailed as error:  # the run and its report need none of it
        announce(f"warning: {error}")
    return panels.NOT_KNOWN


def _panels(lines: list[dict], held_out: panels.HeldOut) -> list[dict]:
    """Returns the curves, and each number of a user's own hooks as a curve of its own."""
    found = panels.panels(lines, held_out)
    known = {"eval", "health", "perf", "loss", "logits", "acc", "norm", "penalty", "ada", "lr"}
    own = {name for line in lines for name in line if name not in ("step", "kimg") and name.split("/")[0] not in known}
    for name in sorted(own):
        if (xy := panels.points(lines, name)).size:
            found.append((panels.Panel(name, {name: ("", panels.INK)}), {name: xy}))
    return [
        {
            "title": panel.title,
            "log": panel.log,
            "smooth": panel.smooth,
            "limits": panel.limits,
            "bounds": [_finite(bound) for bound in panel.bounds],
            "rules": panel.rules,
            "reals": panel.reals,
            "num_reals": panel.num_reals,
            "series": [
                {
                    "name": name,
                    "label": panel.series[name][0],
                    "color": _COLORS[panel.series[name][1]],
                    **_thinned(*xy),
                }
                for name, xy in series.items()
            ],
        }
        for panel, series in found
    ]


_COLORS = {
    panels.BLUE: "blue",
    panels.ORANGE: "orange",
    panels.GREEN: "green",
    panels.PURPLE: "purple",
    panels.GREY: "grey",
    panels.INK: "ink",
}


def _thinned(kimg: np.ndarray, values: np.ndarray) -> dict:
    every = slice(None, None, -(-kimg.size // panels.MAX_POINTS))
    return {"x": _rounded(kimg[every]), "y": _rounded(values[every])}


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _grid(workdir: Path, config, spec: DataSpec, budget: float) -> dict | None:
    """Returns the grids of samples over time and that of real images, or None where there is none."""
    samples = workdir / "samples"
    planes = 3 if config.data.name == "stacked_digits" else 1
    height, width = height_width(spec.image_size)
    cells = frames.Cells(config.sample.grid, height, planes * width)
    pictures = frames.choose(sorted(samples.glob("*kimg.png")), cells, SHARE * budget)
    if not pictures:
        return None
    reals = samples / "reals.png"
    reals = frames.encode(reals, cells, lossless=len(pictures) > 1) if reals.exists() else b""
    names = spec.class_names or tuple(map(str, range(spec.num_classes)))
    conditional = config.model.conditional and names
    return {
        "columns": cells.columns,
        "cell": [cells.height, cells.width],
        "titles": [names[i % len(names)] for i in range(cells.columns)] if conditional else [],
        "reals": frames.data_uri(reals) if reals else None,
        "frames": [[float(path.stem.removesuffix("kimg")), frames.data_uri(picture)] for path, picture in pictures],
    }


def _classes(lines: list[dict], spec: DataSpec) -> dict[str, dict[str, float]]:
    """Returns the last scores of single classes, {score: {class: value}}."""
    last = {name.removeprefix("eval/"): value for line in lines for name, value in line.items()}
    found = {}
    for key in filter(None, (metric.class_key for metric in METRICS.values())):
        score = re.sub(r"_of_(class_)?\{\}", "", key)
        for i, name in enumerate(spec.class_names):
            value = last.get(key.format(name), last.get(key.format(i), math.nan))  # some are by name, some by number
            if math.isfinite(value):
                found.setdefault(score, {})[name] = value
    return found


def _neighbours(workdir: Path) -> str | None:
    """Returns the picture that `jaxgan evaluate --neighbours=WORKDIR/neighbours.png` drew."""
    path = workdir / "neighbours.png"
    if not path.exists():
        return None
    picture = frames.read_picture(path)
    return None if picture is None else frames.data_uri(frames.to_webp(picture))


def _settings(config) -> dict[str, list]:
    """Returns the settings that differ from the defaults, {name: [value, default]}, as a person types them."""
    default = flatten(default_config())
    changed = {key: value for key, value in flatten(config).items() if default.get(key) != value}
    return {key: [_typed(value), _typed(default.get(key))] for key, value in changed.items()}


def _typed(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
