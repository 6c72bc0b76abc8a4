"""Settings: every bad one is one clear line, a saved config is read back as it was, durations are whole dispatches."""

import copy
import json
import pickle

import numpy as np
import pytest

import jaxgan
from jaxgan.core.errors import ConfigError, is_finite, is_whole, lookup, require, require_finite, require_whole
from jaxgan.gan.recipe import recipe_from_config
from jaxgan.models import MODELS
from jaxgan.settings import default_config, flatten, from_dict, report_on_cifar, steps, to_json, unknown_key
from jaxgan.training.loop import check

BAD_RECIPE = {
    "dtype": "float16",
    "model.name": "stylegan9",
    "model.z_dim": 0,
    "model.fake_labels": "fake",
    "model.g.channels": (64, 64),
    "model.d.channels": (64, 64, 64, -1),
    "model.g.shared_dim": 8,  # BigGAN's
    "model.conditioning": "ac",  # without classes
    "loss": "hinges",
    "batch_size": 0,
    "train_kimg": -1.0,
    "d_steps": 0,
    "top_k_fraction": 0.0,
    "data.image_size": 33,
    "optim_g.name": "lion",
    "optim_g.lr": float("nan"),
    "optim_d.lr_schedule": "step to 0",
    "optim_g.b2_schedule": "linear to 1",
    "optim_d.b1": 1.0,
    "optim_g.momentum": 0.9,  # of adam
    "penalty.r1.weight": -0.1,
    "penalty.gp.interval": 0,
    "penalty.path.weight": 2.0,  # of a net without styles
    "augment.name": "colour",
    "augment.p": 1.5,
    "augment.p_schedule": "linear to 1.5",
    "augment.target": 1.0,
    "ema.half_life_kimg": -1.0,
    "ema.half_life_kimg_schedule": "linear to -1",
    "ema.rampup": -1.0,
}
BAD_RUN = {
    "seed": -1,
    "batch_size": 60,  # on 8 devices
    "steps_per_dispatch": 0,
    "sample.grid": 0,
    "sample.every_kimg": -1.0,
    "eval.every_kimg": -1.0,
    "eval.num_samples": -1,
    "eval.num_reals": -1,
    "checkpoint.keep_last": 0,
}


def changed(key, value):
    config = default_config()
    config.update_from_flattened_dict({key: value})
    return config


def assert_names(error, key, value):
    message = str(error.value)
    assert message.startswith(f"config.{key}={value!r}: ")
    assert "\n" not in message
    assert len(message.split(": ", 1)[1]) > 10  # what would be right


@pytest.mark.parametrize("key", BAD_RECIPE)
def test_a_setting_that_makes_no_recipe_names_itself_its_value_and_what_would_be_right(key):
    with pytest.raises(ConfigError) as error:
        recipe_from_config(changed(key, BAD_RECIPE[key]))
    assert_names(error, key, BAD_RECIPE[key])


@pytest.mark.parametrize("key", BAD_RUN)
def test_a_setting_that_makes_no_run_names_itself_its_value_and_what_would_be_right(key):
    config = changed(key, BAD_RUN[key])
    with pytest.raises(ConfigError) as error:
        check(config, recipe_from_config(config), 8)
    assert_names(error, key, BAD_RUN[key])


def test_defaults_are_good_on_one_to_64_devices():
    config = default_config()
    for count in (1, 2, 8, 64):
        check(config, recipe_from_config(config), count)


def test_defaults_are_those_of_the_architectures():
    recipe = recipe_from_config(default_config())
    assert (recipe.generator, recipe.discriminator) == tuple(net() for net in MODELS["sngan"])


def test_fields_reach_the_nets_also_from_a_saved_config():
    config = default_config()
    config.model.g.attention_size, config.model.g.bn_eps, config.model.d.orthogonal_init = 16, 1.0, True
    recipe = recipe_from_config(from_dict(json.loads(to_json(config))))
    g, d = recipe.generator, recipe.discriminator
    assert (g.attention_size, g.bn_eps, d.attention_size, d.orthogonal_init) == (16, 1.0, 0, True)


def test_json_round_trip():
    config = default_config()
    config.model.g.channels = (8, 16)
    config.eval.metrics = ("modes",)
    again = from_dict(json.loads(to_json(config)))
    assert again.to_dict() == config.to_dict()
    assert isinstance(again.model.g.channels, tuple)


def test_saved_config_of_another_version():
    saved = json.loads(to_json(default_config()))
    saved["model"]["wings"] = 2
    with pytest.raises(ConfigError, match=r"config\.model\.wings does not exist"):
        from_dict(saved)


def test_unknown_key_names_the_nearest():
    known = flatten(default_config())
    assert "config.optim_g.lr" in unknown_key("optim_g.lrr", known)
    assert "config.batch_size" in unknown_key("batchsize", known)
    assert "config.penalty.r1.weight" in unknown_key("r1.weight", known)
    assert "is a section" in unknown_key("optim_g", known)
    assert "jaxgan/settings.py" in unknown_key("zzzzz", known)


def test_report_on_cifar_changes_how_often_and_what_is_evaluated_only():
    config = default_config()
    report_on_cifar(config, every_kimg=3.0)
    old, new = flatten(default_config()), flatten(config)
    cadences = {f"{section}.every_kimg" for section in ("sample", "eval", "health", "checkpoint")}
    assert {key for key in new if new[key] != old[key]} == cadences | {"eval.metrics", "checkpoint.best_metric"}


def test_durations_are_whole_dispatches():
    config = default_config()
    config.batch_size, config.d_steps, config.steps_per_dispatch = 100, 2, 5  # 1,000 images a dispatch
    assert [steps(config, kimg) for kimg in (0.0, 0.2, 1.0, 9.6)] == [0, 5, 5, 50]


def test_lookup_lists_the_choices():
    with pytest.raises(ConfigError, match=r"config\.loss='x': choose one of a, b"):
        lookup({"a": 1, "b": 2}, "x", "config.loss")


def test_require_names_setting_and_value():
    require(True, "--num", 1, "")
    with pytest.raises(ConfigError, match=r"^--num=0: must be above 0$"):
        require(False, "--num", 0, "must be above 0")


@pytest.mark.parametrize("value", [True, 2.0, 2.5, float("nan"), "2", None, [2], 0, -1, np.int64(0), np.bool_(True), 9])
def test_what_is_no_whole_number_in_1_to_8(value):
    assert not is_whole(value, 1, 8)
    with pytest.raises(ConfigError, match=r"^n=.*: must be a whole number in 1 \.\. 8$"):
        require_whole("n", value, 1, 8)


@pytest.mark.parametrize(
    "value", [True, "2", None, float("nan"), float("inf"), -0.1, np.float32("nan"), np.array([1.0])]
)
def test_what_is_no_finite_number_from_0_on(value):
    assert not is_finite(value, 0)
    with pytest.raises(ConfigError, match=r"^x=.*: must be a finite number, 0 or above$"):
        require_finite("x", value, 0)


def test_numbers_of_python_and_numpy():
    for value in (1, 8, np.int32(1), np.uint8(8)):
        require_whole("n", value, 1, 8)
    for value in (0, 0.5, np.float32(0.5), np.int64(3)):
        require_finite("x", value, 0)
    require_finite("x", -1.0)


def test_settings_of_what_is_not_registered_here_survive(monkeypatch):
    """Whoever samples from a run needs no penalty of its; whoever trains is told."""
    monkeypatch.setitem(jaxgan.PENALTIES, "centred", jaxgan.Penalty(lambda inputs: inputs.real.logits**2))
    config = default_config()
    config.penalty.centred.weight = 0.5
    saved = json.loads(to_json(config))
    monkeypatch.delitem(jaxgan.PENALTIES, "centred")
    again = from_dict(saved)
    assert flatten(again) == flatten(config)
    with pytest.raises(ConfigError, match=r"config\.penalty='centred': choose one of r1, "):
        jaxgan.recipe_from_config(again)
    with pytest.raises(ConfigError, match=r"another version of jaxgan: config\.optim does not exist"):
        from_dict(saved | {"optim": 1})


@pytest.mark.parametrize(
    ("section", "name", "value", "words"),
    [
        ("", "batchsize", 3, "batchsize does not exist; nearest: batch_size"),
        ("", "lr", 0.1, "lr does not exist; nearest: optim_d.lr, optim_g.lr"),
        ("optim_d", "lrr", 0.1, "lrr does not exist; nearest: lr"),
        ("", "batch_size", "64", "batch_size='64': must be of type int, as 64 is"),
        ("optim_d", "lr", "1", "lr='1': must be of type float, as 0.0002 is"),
    ],
)
def test_a_slip_in_python_is_one_line(section, name, value, words):
    config = default_config()
    copies = copy.deepcopy(config), pickle.loads(pickle.dumps(config)), config.copy_and_resolve_references()
    for known in (config, *copies):
        with pytest.raises(ConfigError) as error:
            setattr(known[section] if section else known, name, value)
        assert str(error.value) == words
    assert not hasattr(config, "batchsize")
    with pytest.raises(AttributeError, match=r"^lecan does not exist; nearest: lecam"):
        config.penalty.lecan.weight = 1.0


@pytest.mark.parametrize("key", ["train_kimg", "loss", "optim_g.lr", "checkpoint.dir", "eval.metrics", "log.trackers"])
def test_only_fields_of_nets_may_be_none(key):
    with pytest.raises(ConfigError, match=rf"^config\.{key}=None: is not set"):
        recipe_from_config(changed(key, None))


def test_what_is_no_config_and_no_spec():
    for config in (None, {}):
        with pytest.raises(ConfigError, match=r"^config=<class '.*'>: give a config, such as jaxgan\.config"):
            recipe_from_config(config)
    dataset = jaxgan.ArrayDataset(np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"^data=<class '.*ArrayDataset'>: give DataSpec\.from_dataset\(dataset\)$"):
        recipe_from_config(default_config(), dataset)


class Odd(MODELS["mlp"][0]):
    """A generator with a field that no setting can be."""

    parts: list = ()


@pytest.mark.parametrize(
    ("table", "entry", "words"),
    [
        ("MODELS", MODELS["mlp"][0], r"^MODELS\['bad'\]=<class '.*Generator'>: must be a pair of classes"),
        ("MODELS", MODELS["mlp"][::-1], r"^MODELS\['bad'\]=.*: must be a pair of classes"),
        ("MODELS", (Odd, MODELS["mlp"][1]), r"^MODELS\['bad'\], field parts=<class 'list'>: a field of a net is"),
        ("LOSSES", abs, r"^LOSSES\['bad'\]=.*: give a Loss"),
        ("PENALTIES", abs, r"^PENALTIES\['bad'\]=.*: give a Penalty"),
    ],
)
def test_an_entry_that_is_none_names_its_table(table, entry, words, monkeypatch):
    monkeypatch.setitem(getattr(jaxgan, table), "bad", entry)
    setting = {"MODELS": ("loss", "ns"), "LOSSES": ("loss", "bad"), "PENALTIES": ("penalty.bad.weight", 1.0)}[table]
    with pytest.raises(ConfigError, match=words):
        recipe_from_config(changed(*setting))
