"""A generator as files that others can read: its weights as safetensors beside a config.json, here or on the Hub."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgan.core.errors import ConfigError, RunFailed, lookup, require
from jaxgan.core.files import atomic_write, read_json
from jaxgan.data import DataSpec
from jaxgan.gan.recipe import make_generator
from jaxgan.sampling.generator import Generator
from jaxgan.settings import from_dict

WEIGHTS, CONFIG = "generator.safetensors", "config.json"
HUB = "hf://"
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def rounded(generator_variables: dict, dtype: str) -> dict:
    """Returns variables, float32, whose parameters have the precision of a dtype; statistics keep theirs."""
    kind = lookup(DTYPES, dtype, "dtype")
    params = jax.tree.map(lambda x: x.astype(kind).astype(x.dtype), generator_variables["params"])
    return {**generator_variables, "params": params}


def write(directory: Path, generator: Generator, dtype: str = "float32") -> None:
    """Writes generator.safetensors and config.json; names of tensors are paths such as params/dense/kernel."""
    import_hub("directory", str(directory))
    from safetensors import flax

    kind = lookup(DTYPES, dtype, "dtype")
    tensors = traverse_util.flatten_dict(generator.variables, sep="/")
    tensors = {name: x.astype(kind) if name.startswith("params/") else x for name, x in tensors.items()}
    about = {
        "library": "jaxgan",
        "step": generator.step,
        "dtype": dtype,
        "config": generator.config.to_dict(),
        "data": generator.data._asdict(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    atomic_write(directory / WEIGHTS, flax.save(tensors, metadata={"format": "jaxgan"}))
    atomic_write(directory / CONFIG, json.dumps(about, indent=2).encode())


def read(directory: Path) -> Generator:
    """Returns the generator that `write` wrote, on one device.

    Raises:
      RunFailed: its files are damaged, or are not those of a generator.
    """
    import_hub("path", str(directory))
    from safetensors import SafetensorError, numpy

    about = read_json(directory / CONFIG)
    missing = [key for key in ("config", "data", "step") if not isinstance(about, dict) or key not in about]
    if missing:
        raise RunFailed(f"{directory / CONFIG}: is not of a generator that jaxgan exported (no {missing[0]})")
    config, data = from_dict(about["config"]), DataSpec(**about["data"])
    try:
        tensors = numpy.load_file(directory / WEIGHTS)
    except SafetensorError as error:
        raise RunFailed(f"{directory / WEIGHTS}: damaged ({error})") from None
    variables = traverse_util.unflatten_dict(
        {name: np.asarray(x, np.float32) if name.startswith("params/") else x for name, x in tensors.items()}, sep="/"
    )
    module = make_generator(config, data)
    fields = dict(z_dim=config.model.z_dim, step=about["step"], config=config, data=data)
    return Generator(module, jax.device_put(variables), **fields)


def fetch(address: str) -> Path:
    """Returns a directory with the files of a model on the Hugging Face Hub, hf://owner/name, or its cached copy.

    Raises:
      ConfigError: it is no such address, or the Hub does not have the model or cannot be reached.
    """
    name = address.removeprefix(HUB).strip("/")
    require(name.count("/") == 1, "path", address, "name a model of the Hub as hf://owner/name")
    hub = import_hub("path", address)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG]))
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"path={address!r}: the Hub does not give this model: {reason}") from error


def import_hub(setting: str, value):
    """Returns the package huggingface_hub; a ConfigError says what to install where the extra `hub` is not."""
    try:
        import flatbuffers  # noqa: F401
        import huggingface_hub
        import safetensors  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{setting}={value!r}: an export needs packages that are missing: pip install 'jaxgan[hub]'"
        ) from None
    return huggingface_hub
