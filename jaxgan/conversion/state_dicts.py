"""Files of state dicts, of which a checkpoint has one a net: which belong together, and the arrays in them."""

import pathlib
import re

import numpy as np

from jaxgan.conversion.objects import Arrays
from jaxgan.core import torch_file

PARTS = ("G", "G_ema", "D")
PARALLEL = "module."
NAMED = re.compile(r"(?P<before>model=|net|)(?P<part>G_ema|G|D)(?P<after>[-_.].*)")


def files_of(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the files of the checkpoint that a file belongs to, by part, going by the names that code bases give.

    These are G_best0.pth, G_ema_best0.pth and D_best0.pth (BigGAN-PyTorch), model=G-best-weights-step=9.pth and so on
    (StudioGAN), and netG/netG_9_steps.pth beside netD/netD_9_steps.pth (mimicry). A file with another name is G's.
    """
    match = NAMED.fullmatch(path.name)
    if not match:
        return {"G": path}
    before, own, after = match.groups()
    files = {}
    for part in PARTS:
        inside = path.parent.name == before + own
        directory = path.parent.with_name(before + part) if inside else path.parent
        file = directory / f"{before}{part}{after}"
        if part == own or file.is_file():
            files[part] = file
    return files


def state_dict(content) -> dict[str, np.ndarray] | None:
    """Returns the arrays of the state dict in what a file holds; None: it has none.

    Their names are without the prefix that PyTorch's DataParallel puts before all of them.
    """
    if not isinstance(content, dict):
        return None
    for key in ("model_state_dict", "state_dict"):  # mimicry; StudioGAN
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    if not content or not all(isinstance(n, str) and isinstance(a, np.ndarray) for n, a in content.items()):
        return None
    parallel = all(name.startswith(PARALLEL) for name in content)
    return {name.removeprefix(PARALLEL): array for name, array in content.items()} if parallel else dict(content)


def generators(nets: dict[str, Arrays], make) -> dict[str, dict]:
    """Returns the variables of G and of its average, as far as there are such; `make` makes them of arrays."""
    parts = {"g": "G", "ema": "G_ema"}
    return {ours: make(nets[part]) for ours, part in parts.items() if part in nets}


def load(files: dict[str, pathlib.Path], read: dict[pathlib.Path, dict]) -> dict[str, Arrays]:
    """Returns the arrays of each part, `read` being files whose content is known; a ValueError names what has none."""
    nets = {}
    for part, file in files.items():
        arrays = state_dict(read[file] if file in read else torch_file.load_objects(file))
        if arrays is None:
            raise ValueError(f"{file} holds no state dict")
        nets[part] = Arrays(arrays, part)
    return nets
