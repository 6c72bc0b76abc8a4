"""Makes a directory of a run that others can load, and that the Hugging Face Hub can show."""

import dataclasses
from pathlib import Path

from jaxgan.core.errors import ConfigError, require, require_choice
from jaxgan.core.files import as_path, atomic_write
from jaxgan.sampling import exported, pictures, sheets
from jaxgan.sampling.load import load
from jaxgan.sharing import card, program
from jaxgan.training.log import read_metrics
from jaxgan.training.report.contents import contents

PROGRAM, CARD, GRID = "generator.stablehlo", "README.md", "grid.png"

SPACES = "spaces/"  # begins the Hub's addresses of Spaces
# What makes the directory a Space; it runs here too: python app.py.
SPACE = {
    "app.py": '''"""Shows the explorer of the generator that is beside this file."""

from pathlib import Path

from jaxgan.sharing.server import explore

explore(Path(__file__).resolve().parent)
''',
    "requirements.txt": "jaxgan[explore,hub] @ git+https://github.com/jaxgan/jaxgan\n",
}


def export(workdir, out, *, step="newest", dtype: str = "float32", push: str = "") -> Path:
    """Writes the EMA generator of a run with a program, a grid, a model card and a page; returns the directory.

    Args:
      workdir: a run.
      out: a directory, made if need be; of one that exists only an earlier export is replaced.
      step: as in `load`.
      dtype: float32, or bfloat16, which halves the weights' file and rounds them.
      push: owner/name, to create or update that model on the Hugging Face Hub, or spaces/owner/name, that Space; "":
        stay here.

    Raises:
      ConfigError: a wrong request, or no token for the Hub; nothing was written.
    """
    hub = exported.import_hub("out", str(out))
    directory = as_path(out, "out", local=True, new=True)
    good = not directory.exists() or (directory.is_dir() and _is_export(directory))
    require(good, "out", str(out), "is there, and is no earlier export; name a new directory")
    require_choice("dtype", dtype, exported.DTYPES)
    named = push.removeprefix(SPACES).count("/") == 1
    require(not push or named, "push", push, f"name a model of the Hub as owner/name, or a Space as {SPACES}owner/name")
    require(not push or hub.get_token() is not None, "push", push, "needs a token: `hf auth login`, or HF_TOKEN")
    run = contents(workdir, budget=0.0)  # which says what is wrong before anything is loaded
    generator = load(workdir, step)
    generator = dataclasses.replace(generator, variables=exported.rounded(generator.variables, dtype))
    compiled = program.serialize(generator)
    name = push if push and not push.startswith(SPACES) else f"owner/{run['name']}"
    exported.write(directory, generator, dtype)
    atomic_write(directory / PROGRAM, compiled)
    sheet = sheets.classes(generator, 8) if 1 < generator.num_classes <= 16 else sheets.samples(generator, 64)
    titles = dict(data_name=generator.config.data.name, titles=sheet.titles)
    pictures.save_images(directory / GRID, sheet.images, sheet.columns, **titles)
    atomic_write(directory / CARD, card.write_card(name, generator, run, _logged(workdir, generator.step)).encode())
    for file, text in SPACE.items():
        atomic_write(directory / file, text.encode())
    if push:
        _push(hub, directory, push)
    return directory


def _logged(workdir, step: int) -> dict:
    """Returns the line of a run's log at a step; {} if there is none."""
    log = as_path(workdir, "workdir", local=True) / "metrics.jsonl"
    lines = read_metrics(log) if log.exists() else []
    return next((line for line in reversed(lines) if line["step"] == step), {})


def _is_export(directory: Path) -> bool:
    """Returns whether a directory is empty, or holds an earlier export and nothing else."""
    found, names = {path.name for path in directory.iterdir()}, {exported.WEIGHTS, exported.CONFIG, PROGRAM, CARD, GRID}
    return not found or (exported.WEIGHTS in found and found <= names | SPACE.keys())


def _push(hub, directory: Path, name: str) -> None:
    api, space = hub.HfApi(), name.startswith(SPACES)
    where = dict(repo_id=name.removeprefix(SPACES), repo_type="space" if space else "model")
    try:
        api.create_repo(**where, exist_ok=True, space_sdk="gradio" if space else None)
        api.upload_folder(**where, folder_path=directory, commit_message="Export by jaxgan")
    except hub.errors.HfHubHTTPError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"push={name!r}: the Hub refuses: {reason}; the files are in {directory}") from error
