"""Makes a directory of a run that others can load, and that the Hugging Face Hub can show."""

import dataclasses
from pathlib import Path

from jaxgan.core.errors import ConfigError, require
from jaxgan.core.files import as_path, atomic_write
from jaxgan.sampling import exported, pictures, sheets
from jaxgan.sampling.load import load
from jaxgan.sharing import card, program
from jaxgan.training.report.contents import contents

PROGRAM, CARD, GRID = "generator.stablehlo", "README.md", "grid.png"


def export(workdir, out, *, step="newest", dtype: str = "float32", push: str = "") -> Path:
    """Writes the EMA generator of a run with a program, a grid and a model card; returns the directory.

    Args:
      workdir: a run.
      out: a directory, made if need be; of one that exists only an earlier export is replaced.
      step: as in `load`.
      dtype: float32, or bfloat16, which halves the weights' file and rounds them.
      push: owner/name, to create or update that model on the Hugging Face Hub; "": stay here.

    Raises:
      ConfigError: a wrong request, or no token for the Hub; nothing was written.
    """
    hub = exported.import_hub("out", str(out))
    directory = as_path(out, "out", local=True, new=True)
    good = not directory.exists() or (directory.is_dir() and _is_export(directory))
    require(good, "out", str(out), "is there, and is no earlier export; name a new directory")
    require(dtype in exported.DTYPES, "dtype", dtype, f"choose one of {', '.join(exported.DTYPES)}")
    require(not push or push.count("/") == 1, "push", push, "name a model of the Hub as owner/name")
    require(not push or hub.get_token() is not None, "push", push, "needs a token: `hf auth login`, or HF_TOKEN")
    run = contents(workdir, budget=0.0)  # which says what is wrong before anything is loaded
    generator = load(workdir, step)
    generator = dataclasses.replace(generator, variables=exported.rounded(generator.variables, dtype))
    compiled = program.serialize(generator)
    name = push or f"owner/{run['name']}"
    exported.write(directory, generator, dtype)
    atomic_write(directory / PROGRAM, compiled)
    sheet = sheets.classes(generator, 8) if 1 < generator.num_classes <= 16 else sheets.samples(generator, 64)
    titles = dict(data_name=generator.config.data.name, titles=sheet.titles)
    pictures.save_images(directory / GRID, sheet.images, sheet.columns, **titles)
    atomic_write(directory / CARD, card.write_card(name, generator, run).encode())
    if push:
        _push(hub, directory, push)
    return directory


def _is_export(directory: Path) -> bool:
    """Returns whether all that is in a directory may be of an earlier export."""
    names = {exported.WEIGHTS, exported.CONFIG, PROGRAM, CARD, GRID}
    return {path.name for path in directory.iterdir()} <= names


def _push(hub, directory: Path, name: str) -> None:
    api = hub.HfApi()
    try:
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=directory, commit_message="Export by jaxgan")
    except hub.errors.HfHubHTTPError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"push={name!r}: the Hub refuses: {reason}; the files are in {directory}") from error
