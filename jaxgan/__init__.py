"""jaxgan: train, resume, measure, look at and share GANs in JAX.

    import jaxgan

    config = jaxgan.config("numerals")            # a packaged recipe; jaxgan.default_config() has every setting
    jaxgan.train(config, "runs/numerals")         # the same call again resumes
    generator = jaxgan.load("runs/numerals")
    images = generator.sample(64)                 # uint8 [64, H, W, C]

One's own loop is made of `recipe_from_config` (or `Recipe`), `init_state` and `train_step`, on many devices with
`parallelize`. The dicts MODELS, LOSSES, PENALTIES, AUGMENTATIONS, METRICS and DATASETS hold what a config may name;
what is added to them can be named too.
"""

import importlib

__version__ = "0.1.0"

# Name -> its module. Nothing of it is imported before it is used, so that `import jaxgan` takes no time.
_HOMES = {
    "train": "jaxgan.training.loop",
    "every": "jaxgan.training.hooks",
    "recipe_from_config": "jaxgan.gan.recipe",
    "Recipe": "jaxgan.gan.recipe",
    "init_state": "jaxgan.gan.state",
    "train_step": "jaxgan.gan.step",
    "parallelize": "jaxgan.gan.step",
    "load": "jaxgan.sampling.load",
    "Generator": "jaxgan.sampling.generator",
    "save_images": "jaxgan.sampling.pictures",
    "evaluate": "jaxgan.evaluation.api",
    "convert": "jaxgan.conversion.run",
    "Penalty": "jaxgan.gan.penalties",
    "Loss": "jaxgan.gan.losses",
    "Optimizer": "jaxgan.gan.optim",
    "Augmentation": "jaxgan.gan.augment",
    "Schedule": "jaxgan.gan.schedules",
    "DataSpec": "jaxgan.data",
    "ArrayDataset": "jaxgan.data",
    "Batches": "jaxgan.data",
    "MODELS": "jaxgan.models",
    "LOSSES": "jaxgan.gan.losses",
    "PENALTIES": "jaxgan.gan.penalties",
    "AUGMENTATIONS": "jaxgan.gan.augment",
    "METRICS": "jaxgan.evaluation.registry",
    "DATASETS": "jaxgan.data",
    "default_config": "jaxgan.settings",
    "config": "jaxgan.config_files",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    """Imports a name of the face when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxgan' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
