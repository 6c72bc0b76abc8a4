"""Turns a file of networks into a run."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile

from flax import traverse_util

from jaxgan.conversion import biggan_pytorch, mimicry, r3gan, state_dicts, studiogan, stylegan2, stylegan2_tf
from jaxgan.conversion.objects import Converted, any_generator
from jaxgan.core import torch_file
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError, require
from jaxgan.core.files import as_path, atomic_write
from jaxgan.core.shapes import size_in_words
from jaxgan.core.words import counted
from jaxgan.data import DataSpec
from jaxgan.gan.nets import abstract_variables
from jaxgan.gan.recipe import make_nets
from jaxgan.settings import default_config, to_json

PICKLES = {  # by what they call themselves
    stylegan2: "StyleGAN2-ADA for PyTorch",
    stylegan2_tf: "StyleGAN2 for TensorFlow",
    r3gan: "R3GAN",
}
STATE_DICTS = {mimicry: "mimicry", biggan_pytorch: "BigGAN-PyTorch", studiogan: "StudioGAN"}


def convert(file: str | os.PathLike, out: str | os.PathLike, g_only: bool = False) -> dict[str, str]:
    """Writes a run that `jaxgan.load`, `jaxgan evaluate` and config.init_from take, and returns facts about it.

    The file is read without running or importing anything of it. The run has one checkpoint, at step 0, with G, D and
    the average of G as far as there are such; where one of G and its average is missing, it is the other. The terms of
    the weights are in the run's LICENCE.txt and in its checkpoint.

    Args:
      file: what StyleGAN2 and StyleGAN2-ADA, for TensorFlow or PyTorch, or R3GAN have written, a .pkl, or the .pth of
        one net of a checkpoint of mimicry, BigGAN-PyTorch or StudioGAN. The other nets of the checkpoint are read from
        the files beside it.
      out: a directory that does not exist or is empty.
      g_only: whether to leave D out, for one that jaxgan does not have.

    Raises:
      ConfigError: the file holds no networks that jaxgan has, or cannot be read, or `out` is taken. Nothing was written
        then.
    """
    path, out = as_path(file, "file", local=True), as_path(out, "out", local=True, new=True)
    require(path.is_file(), "file", str(file), "there is no such file")
    free = not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir()))
    require(free, "out", str(out), "must not exist, or be empty")
    files = state_dicts.files_of(path)
    try:
        content = stylegan2_tf.by_part(torch_file.load_objects(path))
        if state_dicts.state_dict(content) is None:
            files = {"": path}
            if g_only and isinstance(content, dict):
                content["D"] = None
            converted = _convert(content, PICKLES)
        else:
            files = {part: file for part, file in files.items() if not (g_only and part == "D")}
            converted = _convert(state_dicts.load(files, {path: content}), STATE_DICTS)
    except (ValueError, OSError) as error:
        raise ConfigError(f"file={str(file)!r}: {error}") from error
    config, data = _describe(converted)
    _require_fit(converted, config, data, str(file))
    any_g = any_generator(converted.variables)
    variables = {"g": any_g, "ema": any_g, **converted.variables}
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files.values()}
    source = {"files": hashes, "family": converted.family}
    about = {"config": config.to_dict(), "data": data._asdict(), "rollbacks": 0, "log": (0, 0)}
    try:
        _write(out, config, data, variables, about | {"source": source, "licence": converted.licence})
    except OSError as error:
        raise ConfigError(f"out={str(out)!r}: cannot be written: {error.strerror or error}") from error
    images = f"{size_in_words(data.image_size)}, {counted(data.channels, 'channel')}"
    return {
        "from": converted.family,
        "nets": f"{config.model.name}, {images}, {data.num_classes or 'no'} classes",
        "parts": ", ".join(converted.variables),
        **({"assumed": converted.assumed} if converted.assumed else {}),
        "licence": converted.licence,
        "files": ", ".join(hashes),
        "run": str(out),
    }


def _convert(content, families: dict) -> Converted:
    with _one_kind_of_error():
        for family in families:
            if family.knows(content):
                return family.convert(content)
    *known, last = [*PICKLES.values(), *STATE_DICTS.values()]
    raise ValueError(f"holds no networks of {', '.join(known)} or {last}, or no generator")


@contextlib.contextmanager
def _one_kind_of_error():
    """Turns what a strange file makes of the code that converts it into a ValueError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ValueError("holds networks of another kind, or arrays of other shapes than theirs") from error


def _describe(converted: Converted):
    """Returns a config and what the images are."""
    config = default_config()
    config.data.name, config.data.image_size = "", converted.image_size  # the images are not known here
    config.model.conditional = converted.num_classes > 0
    config.ema.half_life_kimg = 0.0
    for key, value in converted.settings.items():
        if value is not None:
            config.update_from_flattened_dict({key: value})
    facts = converted.image_size, converted.image_channels, converted.num_classes, converted.images
    return config, DataSpec(*facts, "converted")


def _require_fit(converted: Converted, config, data: DataSpec, file: str) -> None:
    """Raises a ConfigError unless the variables are those of the nets that the config describes."""
    try:
        g, d = make_nets(config, data)
    except ValueError as error:
        raise ConfigError(f"file={file!r}: describes nets that jaxgan does not have: {error}") from error
    nets = {"g": g} | ({"d": d} if "d" in converted.variables else {})
    expected = {name: abstract_variables(net, config.model.z_dim) for name, net in nets.items()}
    for part, variables in converted.variables.items():
        here = traverse_util.flatten_dict(expected["d" if part == "d" else "g"], sep="/")
        there = traverse_util.flatten_dict(variables, sep="/")
        for key in sorted(here.keys() | there.keys()):
            ours, theirs = (str(list(x[key].shape)) if key in x else "absent" for x in (here, there))
            right = f"its {part} does not fit jaxgan's {config.model.name}: {key} is {theirs} there, {ours} here"
            require(ours == theirs, "file", file, right)


def _write(out: pathlib.Path, config, data: DataSpec, variables: dict, about: dict) -> None:
    """Writes a run, all of it or nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        new = pathlib.Path(temporary, "run")
        new.mkdir()
        with Checkpoints(new / "checkpoints") as checkpoints:
            checkpoints.save(0, variables, about)
        atomic_write(new / "config.json", to_json(config).encode())
        atomic_write(new / "data.json", json.dumps(data._asdict(), indent=2).encode())
        atomic_write(new / "LICENCE.txt", f"{about['source']['family']}: {about['licence']}.\n".encode())
        if out.exists():
            out.rmdir()
        new.rename(out)
