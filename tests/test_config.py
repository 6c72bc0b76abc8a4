"""Every bad setting is one clear line, before anything is written."""

import json

import pytest

from jaxgan.core.errors import ConfigError, lookup
from jaxgan.gan.state import make_modules
from jaxgan.settings import changes, default_config, flatten, from_dict, steps, to_json, unknown_key
from jaxgan.training.check import check

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
    "optim_d.lr_schedule": "step to 0",
    "optim_g.b2_schedule": "linear to 1",
    "ema.half_life_kimg_schedule": "linear to -1",
    "ema.sigma_rel": 0.3,
    "augment.name": "colour",
    "augment.p": 1.5,
    "augment.p_schedule": "linear to 1.5",
    "augment.speed_kimg": 0.0,
    "augment.target": 1.0,
    "top_k": 0.0,
    "penalty.path.weight": 2.0,
    "model.conditioning": "ac",
    "aux.temperature": 0.0,
    "aux.margin_own": 1.1,
    "aux.weight_d": -1.0,
    "aux.embed_dim": 0,
    "model.g_options": "wings=2",
    "model.d_options": "spectral=0.5",
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


@pytest.mark.parametrize("posthoc", [(0.05,), (0.1, 0.1), (0.3,), (0.0,)])
def test_widths_of_averages(posthoc):
    config = default_config()
    config.ema.posthoc = (0.1,)
    with pytest.raises(ConfigError, match=r"ema\.sigma_rel=0\.0: config\.ema\.posthoc wants"):
        check(config, 1)
    config.ema.sigma_rel = 0.05
    check(config, 1)
    config.ema.posthoc = posthoc
    with pytest.raises(ConfigError, match=r"ema\.posthoc=.*: give widths in \(0, 0\.2887\]"):
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
    for key in ("optim_d.lr", "penalty.r1.weight", "augment.p"):
        config = default_config()
        config.train_kimg = 1e4
        config.update_from_flattened_dict({f"{key}_schedule": "linear to 0.5"})
        assert len(changes(config, saved)[0]) == 0  # another length is another schedule
        config.update_from_flattened_dict({f"{key}_schedule": "linear to 0.5 in 10 kimg"})
        assert len(changes(config, saved)[0]) == 1


def test_schedules_as_they_were_saved_before_they_were_words():
    saved = json.loads(to_json(default_config()))
    for optim, (kind, end, over, warmup) in {
        "optim_g": ("linear", 1e-5, 20.0, 1.0), "optim_d": ("constant", 0.0, 0.0, 0.0)
    }.items():  # fmt: skip
        del saved[optim]["lr_schedule"]
        saved[optim] |= {"schedule": kind, "lr_end": end, "decay_kimg": over, "warmup_kimg": warmup}
    config = from_dict(saved)
    assert config.optim_g.lr_schedule == "warmup 1.0 kimg, linear to 1e-05 in 20.0 kimg"
    assert config.optim_d.lr_schedule == "constant"
    check(config, 1)


def test_options_reach_the_modules():
    config = default_config()
    config.model.g_options, config.model.d_options = "attention_size=16, bn_eps=1", "orthogonal_init=True"
    check(config, 1)
    g, d = make_modules(from_dict(json.loads(to_json(config))))
    assert (g.attention_size, g.bn_eps, d.attention_size, d.orthogonal_init) == (16, 1, 0, True)


@pytest.mark.parametrize("text", ["spectral", "spectral=x", "f()", "spectral=True;", "**{}", "'a'='b'", "1"])
def test_options_that_cannot_be_read(text):
    config = default_config()
    config.model.g_options = text
    with pytest.raises(ConfigError, match=r"config\.model\.g_options="):
        check(config, 1)


def test_a_mistake_that_only_the_nets_know():
    config = default_config()
    config.model.name, config.model.z_dim = "biggan", 3
    with pytest.raises(ConfigError, match=r"config\.model\.name='biggan': z of 3 numbers"):
        check(config, 1)


@pytest.mark.parametrize(
    ("loss", "change", "message"),
    [
        ("rpgan", {"augment.name": "ada"}, "only differences"),
        ("ns", {}, "wants one that adapts"),
        ("ns", {"augment.name": "ada", "augment.p_schedule": "linear to 1"}, "an adaptive p has none"),
    ],
)
def test_an_adaptive_p_needs_an_augmentation_and_a_border(loss, change, message):
    config = default_config()
    config.loss, config.augment.target = loss, 0.6
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        check(config, 1)


def test_conditionings_are_those_of_the_architecture():
    config = default_config()
    config.model.conditional = True
    for conditioning in ("ac", "multi_hinge", "d2dce"):
        config.model.name, config.model.conditioning = "sngan", conditioning
        check(config, 1)
        config.model.name = "stylegan2"
        with pytest.raises(ConfigError, match=rf"conditioning='{conditioning}': stylegan2 has projection$"):
            check(config, 1)
    config.model.name, config.model.conditioning = "sngan", "acgan"
    with pytest.raises(ConfigError, match="sngan has projection, ac, multi_hinge, d2dce"):
        check(config, 1)


def test_configs_saved_before_there_were_conditionings():
    saved = json.loads(to_json(default_config()))
    del saved["aux"], saved["penalty"]["fm"], saved["model"]["san"], saved["model"]["conditioning"]
    assert from_dict(saved).to_dict() == default_config().to_dict()


def test_durations_are_whole_calls():
    config = default_config()
    config.batch_size, config.d_steps, config.steps_per_call = 100, 2, 5  # 1,000 images a call
    assert [steps(config, kimg) for kimg in (0.0, 0.2, 1.0, 9.6)] == [0, 5, 5, 50]


def test_lookup_lists_the_choices():
    with pytest.raises(ConfigError, match=r"config\.loss='x': choose one of a, b"):
        lookup({"a": 1, "b": 2}, "x", "config.loss")
