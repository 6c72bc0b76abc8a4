"""Every bad setting is one clear line, before anything is written."""

import json

import pytest

from jaxgan.config import (
    ConfigError,
    changes,
    check,
    default_config,
    flatten,
    from_dict,
    lookup,
    steps,
    to_json,
    unknown_key,
)

BAD = {
    "parallel": "tmap",
    "dtype": "float16",
    "model.name": "stylegan9",
    "loss": "hinges",
    "batch_size": 60,
    "train_kimg": -1.0,
    "d_steps": 0,
    "steps_per_call": 0,
    "model.z_dim": 0,
    "data.image_size": 33,
    "model.g_channels": (64, 64),
    "model.d_channels": (64, 64, 64, -1),
    "optim_g.name": "lion",
    "optim_d.schedule": "step",
    "optim_g.lr": float("nan"),
    "optim_d.b1": 1.0,
    "penalty.r1.weight": -0.1,
    "penalty.gp.interval": 0,
    "ema.half_life_kimg": -1.0,
    "eval.metrics": ("fjd",),
    "eval.num_samples": 1,
    "eval.num_reals": 1,
    "checkpoint.best_metric": "eval/fid",
    "checkpoint.best_mode": "least",
    "checkpoint.keep_last": 0,
    "log.every_kimg": 0.0,
    "seed": -1,
}


@pytest.mark.parametrize("key", BAD)
def test_bad_setting_names_itself_its_value_and_what_would_be_right(key):
    config = default_config()
    config.update_from_flattened_dict({key: BAD[key]})
    with pytest.raises(ConfigError) as error:
        check(config, num_devices=8)
    message = str(error.value)
    assert message.startswith(f"config.{key}={BAD[key]!r}: ")
    assert "\n" not in message
    assert len(message.split(": ", 1)[1]) > 10


def test_defaults_are_good_on_one_to_64_devices():
    for count in (1, 2, 8, 64):
        check(default_config(), count)


def test_modes_need_the_set_that_has_them():
    config = default_config()
    config.eval.metrics = ("modes",)
    with pytest.raises(ConfigError, match="stacked_digits"):
        check(config, 1)


def test_lazy_penalty_must_fall_on_log_lines():
    config = default_config()  # a line every 100 D steps
    config.penalty.r1.update(weight=1.0, interval=16)
    with pytest.raises(ConfigError, match=r"penalty\.r1\.interval=16: must divide the 100 D steps"):
        check(config, 1)
    config.penalty.r1.interval = 20
    check(config, 1)


def test_unknown_key_names_the_nearest():
    known = flatten(default_config())
    assert "config.optim_g.lr" in unknown_key("optim_g.lrr", known)
    assert "config.batch_size" in unknown_key("batchsize", known)
    assert "config.penalty.r1.weight" in unknown_key("r1.weight", known)
    assert "is a section" in unknown_key("optim_g", known)
    assert "jaxgan/config.py" in unknown_key("zzzzz", known)


def test_json_round_trip():
    config = default_config()
    config.model.g_channels = (8, 16)
    config.eval.metrics = ("modes",)
    again = from_dict(json.loads(to_json(config)))
    assert again.to_dict() == config.to_dict()
    assert isinstance(again.model.g_channels, tuple)


def test_saved_config_of_another_version():
    saved = json.loads(to_json(default_config()))
    saved["model"]["wings"] = 2
    with pytest.raises(ConfigError, match=r"config\.model\.wings does not exist"):
        from_dict(saved)


def test_changes_that_are_free_and_those_that_are_not():
    saved, config = default_config(), default_config()
    config.train_kimg = 1e4
    config.log.every_kimg = 1.0
    config.optim_g.lr = 1e-3
    config.seed = 3
    free, fixed = changes(config, saved)
    assert {line.split(":")[0] for line in free} == {"config.train_kimg", "config.log.every_kimg"}
    assert set(fixed) == {"config.seed: 0 -> 3", "config.optim_g.lr: 0.0002 -> 0.001"}


def test_durations_are_whole_calls():
    config = default_config()
    config.batch_size, config.d_steps, config.steps_per_call = 100, 2, 5  # 1,000 images a call
    assert [steps(config, kimg) for kimg in (0.0, 0.2, 1.0, 9.6)] == [0, 5, 5, 50]


def test_lookup_lists_the_choices():
    with pytest.raises(ConfigError, match=r"config\.loss='x': choose one of a, b"):
        lookup({"a": 1, "b": 2}, "x", "config.loss")
