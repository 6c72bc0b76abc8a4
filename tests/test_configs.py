"""Every packaged config makes a recipe as it stands, and its nets have the parameters that it says."""

import ast
import math

import jax
import pytest

import jaxgan
from jaxgan import config_files
from jaxgan.core.errors import ConfigError
from jaxgan.data import DataSpec
from jaxgan.evaluation.registry import METRICS, higher_is_better
from jaxgan.models import MODELS
from jaxgan.settings import default_config, flatten

FILES = config_files.packaged()
DOCSTRINGS = {name: ast.get_docstring(ast.parse(file.read_text())) for name, file in FILES.items()}
NAMES = [name for name in FILES if name != "r3gan"]  # whose presets have a test of their own


@pytest.mark.parametrize("name", NAMES)
def test_config_makes_a_recipe(name):
    config = jaxgan.config(name)
    recipe = jaxgan.recipe_from_config(config)
    assert recipe.batch_size % 8 == 0  # of a small slice of TPUs
    assert recipe.images_per_step == config.batch_size * config.d_steps
    assert set(flatten(config)) == set(flatten(default_config()))
    assert f"    jaxgan train --config={name}\n" in DOCSTRINGS[name]


@pytest.mark.parametrize("name", NAMES)
def test_config_keeps_the_best_of_what_it_evaluates(name):
    config = jaxgan.config(name)
    assert set(config.eval.metrics) <= set(METRICS)
    if config.checkpoint.best_metric:
        assert higher_is_better(config.checkpoint.best_metric) is not None
        keys = {f"eval/{key}" for metric in config.eval.metrics for key in METRICS[metric].keys}
        assert config.checkpoint.best_metric in keys


@pytest.mark.parametrize("name", [name for name in NAMES if f"--config={name}:unconditional" in DOCSTRINGS[name]])
def test_variants_differ_in_labels(name):
    conditional, unconditional = (jaxgan.config(f"{name}{variant}") for variant in ("", ":unconditional"))
    assert (conditional.model.conditional, unconditional.model.conditional) == (True, False)
    assert jaxgan.recipe_from_config(unconditional).generator.num_classes == 0
    others = "5min, 15min, 30min, 60min" if name == "laptop" else "conditional"
    with pytest.raises(ConfigError, match=f"both: the variants are {others} and unconditional"):
        jaxgan.config(f"{name}:both")


@pytest.mark.parametrize(
    ("preset", "classes", "g", "d"),
    [
        ("ffhq64", 0, 22_429_824, 22_381_440),
        ("ffhq256", 0, 23_057_952, 23_009_568),
        ("imagenet32", 1000, 82_914_304, 86_548_992),
        ("imagenet64", 1000, 103_570_432, 107_205_120),
    ],
)
def test_presets_of_r3gan_have_the_parameters_of_the_official_nets(preset, classes, g, d):
    config = jaxgan.config(f"r3gan:{preset}")
    recipe = jaxgan.recipe_from_config(config, DataSpec(config.data.image_size, 3, classes, 10_000, ""))
    state = jax.eval_shape(jaxgan.init_state, recipe, jax.random.key(0))
    assert [sum(math.prod(a.shape) for a in jax.tree.leaves(net.params)) for net in (state.g, state.d)] == [g, d]
    line = next(line for line in DOCSTRINGS["r3gan"].splitlines() if line.strip().startswith(preset))
    assert f"G {g:,}, D {d:,}" in line


def test_an_unknown_preset_of_r3gan():
    with pytest.raises(ConfigError, match=r"r3gan:lsun: the presets are ffhq64, ffhq256"):
        jaxgan.config("r3gan:lsun")


@pytest.mark.parametrize("pixels", [32, 256])
def test_variants_of_images_have_their_size(pixels):
    recipe = jaxgan.recipe_from_config(jaxgan.config(f"images:{pixels}"))
    assert recipe.image_shape == (pixels, pixels, 3)
    with pytest.raises(ConfigError, match=r"images:512: the variants are 32, 64, 128, 256"):
        jaxgan.config("images:512")


@pytest.mark.parametrize("variant", ["stylegan2", "r3gan"])
def test_variants_of_finetune_keep_the_first_layers(variant):
    recipe = jaxgan.recipe_from_config(jaxgan.config(f"finetune:{variant}"))
    assert len(recipe.optimizer_d.frozen) in (3, 4)
    assert recipe.optimizer_g.frozen == ()
    with pytest.raises(ConfigError, match=r"finetune:biggan: the variants are stylegan2 and r3gan"):
        jaxgan.config("finetune:biggan")


def test_every_architecture_has_a_config():
    assert {jaxgan.config(name).model.name for name in FILES} == set(MODELS)


def test_a_config_is_made_anew_each_time():
    jaxgan.config("cifar").batch_size = 7
    assert jaxgan.config("cifar").batch_size == 64


def test_a_config_by_path_is_that_of_its_name(tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text(FILES["cifar"].read_text())  # which builds on another one
    assert jaxgan.config(f"{copy}:unconditional").to_dict() == jaxgan.config("cifar:unconditional").to_dict()


def test_times_of_laptop_differ_in_nothing_else():
    """So that a longer run goes on where a shorter one ends."""
    configs = {time: jaxgan.config(f"laptop:{time}") for time in ("5min", "15min", "30min", "60min")}
    kimg = [config.train_kimg for config in configs.values()]
    assert kimg == sorted(set(kimg))
    for config in configs.values():
        config.train_kimg = 1.0
    assert len({config.to_json() for config in configs.values()}) == 1
    assert jaxgan.config("laptop").to_json() == jaxgan.config("laptop:30min").to_json()
