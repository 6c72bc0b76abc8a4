"""Measurements in closed form, and warnings that come with each symptom and not without one."""

import re
import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.settings import default_config
from jaxgan.training.health import (
    COLLAPSED_VARIETY,
    VARIETY_DROP,
    WARMUP_KIMG,
    HealthMonitor,
    health_warnings,
    overfitting_gap,
    pairwise_distance,
)
from jaxgan.training.standard import health_metrics


def test_pairwise_distance_is_the_mean_over_all_pairs():
    images = np.random.default_rng(0).uniform(-1, 1, (7, 4, 5, 3)).astype(np.float32)
    squares = [np.mean(np.square(a - b)) for i, a in enumerate(images) for b in images[:i]]
    assert pairwise_distance(images) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6)


def test_pairwise_distance_has_one_unit_for_bytes_and_floats():
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), np.uint8)
    assert pairwise_distance(images) == pytest.approx(pairwise_distance(images / 127.5 - 1), rel=1e-12)


def test_pairwise_distance_of_known_sets():
    black_and_white = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    assert pairwise_distance(black_and_white) == pytest.approx(2.0)
    assert pairwise_distance(np.full((5, 8, 8, 3), 77, np.uint8)) == 0.0
    with pytest.raises(ValueError, match="at least 2 images, not 1"):
        pairwise_distance(black_and_white[:1])


def test_variety_left_by_a_collapse_is_what_the_thresholds_say():
    varied = np.random.default_rng(0).normal(size=(2000, 16, 16, 1))
    for fraction, left in ((0.92, COLLAPSED_VARIETY), (0.71, 1.0 - VARIETY_DROP)):
        collapsed = varied.copy()
        collapsed[: round(2000 * fraction)] = varied[0]
        ratio = pairwise_distance(collapsed) / pairwise_distance(varied)
        assert ratio == pytest.approx(np.sqrt(1.0 - fraction**2), abs=0.01)
        assert ratio == pytest.approx(left, abs=0.02)


@pytest.mark.parametrize("gap", [-0.5, 0.0, 0.5, 1.0])
def test_overfitting_gap_is_the_position_between_train_and_fake(gap):
    noise = np.random.default_rng(0).normal(size=1000)
    noise -= noise.mean()
    train, fake = 3.0 + noise, -2.0 + noise
    assert overfitting_gap(train, 3.0 - 5.0 * gap + noise, fake) == pytest.approx(gap, abs=1e-12)


def test_overfitting_gap_is_unknown_where_d_tells_nothing_apart():
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=256) for _ in range(3)]
    assert np.isnan(overfitting_gap(*logits))
    assert np.isnan(overfitting_gap(np.zeros(4), np.zeros(4), np.zeros(4)))
    assert np.isnan(overfitting_gap(np.zeros(4), np.zeros(4), np.ones(4)))  # D has it backwards


class Brightness(nn.Module):
    """A discriminator whose logit is the mean pixel, 1 at white."""

    @nn.compact
    def __call__(self, images, labels, *, train):
        return images.mean((1, 2, 3)), {}


@pytest.mark.parametrize("chunk", [1, 10, 64])
def test_health_metrics_measure_samples_and_d(chunk):
    noise = np.random.default_rng(0).integers(-8, 9, (20, 4, 4, 3))
    reals, others, fakes = ((level + noise).astype(np.uint8) for level in (200, 180, 100))
    labels = jnp.zeros(20, jnp.int32)
    generator = types.SimpleNamespace(latents=lambda n: (None, labels, None), generate=lambda z, labels, keys: fakes)
    state = types.SimpleNamespace(d=types.SimpleNamespace(params={}, model_state={}))
    recipe = types.SimpleNamespace(discriminator=Brightness())
    values = health_metrics(recipe, state, generator, (reals, labels), (others, labels), chunk)
    assert values == pytest.approx({"health/variety": 1.0, "health/overfitting": 0.2}, abs=1e-5)
    assert health_metrics(recipe, state, generator, (reals, labels), None, chunk).keys() == {"health/variety"}
    black = np.zeros((20, 4, 4, 3), np.uint8)
    assert health_metrics(recipe, state, generator, (black, labels), None, chunk) == {}  # no measure of variety


def healthy(lines=100, seed=0):
    """Noisy metrics of a good run, 6.4 kimg a line, a health check every 10 lines."""
    rng = np.random.default_rng(seed)
    history = []
    for i in range(1, lines + 1):
        learned = 1.0 - np.exp(-i / 20)
        line = {
            "step": 100 * i,
            "kimg": 6.4 * i,
            "loss/d": 1.39 - 0.7 * learned + 0.2 * rng.normal(),
            "loss/g": 0.7 + 2.0 * learned + 0.5 * rng.normal(),
            "logits/real": 2.0 * learned + 0.5 * rng.normal(),
            "logits/fake": -2.0 * learned + 0.5 * rng.normal(),
            "acc/real": min(1.0, 0.5 + 0.4 * learned + 0.05 * rng.normal()),
            "acc/fake": min(1.0, 0.5 + 0.4 * learned + 0.05 * rng.normal()),
            "norm/grad_g": 2.0 * np.exp(-learned + 0.5 * rng.normal()),
            "norm/grad_d": 3.0 * np.exp(0.5 * rng.normal()),
            "norm/param_g": 60.0 + 0.5 * i,
            "norm/param_d": 40.0 + 0.8 * i,
        }
        if i % 10 == 0:
            line["health/variety"] = 0.5 + 0.4 * learned + 0.03 * rng.normal()
            line["health/overfitting"] = 0.3 * i / lines + 0.1 * rng.normal()
        if i % 25 == 0:
            line["eval/modes"] = 1000 * learned - 20 * rng.random()
        history.append(line)
    return history


def ill(begin=60, **changes):
    """A run that is healthy until line `begin`; then value -> change(value, lines since)."""
    history = healthy()
    for i, line in enumerate(history[begin:]):
        for name, change in changes.items():
            name = name.replace("__", "/")
            if name in line:
                line[name] = change(line[name], i)
    return history


SURE = dict(acc__real=lambda v, i: 1.0, acc__fake=lambda v, i: 0.998)
ILLNESSES = {
    "saturated": (
        "D saturated",
        r"accuracy 1\.000 on reals and 0\.998 on fakes, gradient norm of G 0\.0\d+, at best \d",
        SURE | dict(norm__grad_g=lambda v, i: 0.01 * v),
    ),
    "saturated from the start": (
        "D saturated",
        r"gradient norm of G \d(\.\d)?e-1\d, at best \d(\.\d)?e-1\d",
        SURE | dict(begin=0, norm__grad_g=lambda v, i: 1e-12 * v),
    ),
    "lost from the start": (
        "divergence",
        r"the loss of G has a size of [23]\.\d+e\+03",
        dict(begin=0, loss__g=lambda v, i: 1000 * v),
    ),
    "one image": (
        "mode collapse",
        r"samples differ 0\.2\d times as much as reals$",
        dict(health__variety=lambda v, i: 0.3 * v),
    ),
    "less varied": (
        "mode collapse",
        r"samples differ 0\.\d\d times as much as reals, after 0\.\d\d$",
        dict(health__variety=lambda v, i: 0.6 * v),
    ),
    "fewer modes": (
        "mode collapse",
        r"\d+ modes captured, after 9\d\d",
        dict(eval__modes=lambda v, i: 0.7 * v),
    ),
    "overfitting": (
        "D overfits",
        r"held-out reals are \d\d% of the way from train reals to fakes",
        dict(health__overfitting=lambda v, i: v + 0.6),
    ),
    "logits": (
        "divergence",
        r"gap between D's logits on reals and fakes grew from \d.* at 320 kimg to",
        dict(logits__real=lambda v, i: v * 1.2**i),
    ),
    "loss": ("divergence", "loss of G grew", dict(loss__g=lambda v, i: v * 1.2**i)),
    "parameters": ("divergence", "norm of G's parameters grew", dict(norm__param_g=lambda v, i: v * 1.2**i)),
}


@pytest.mark.parametrize("illness", ILLNESSES)
def test_each_illness_is_found_and_nothing_else(illness):
    symptom, figure, changes = ILLNESSES[illness]
    (warning,) = health_warnings(ill(**changes))
    assert warning.symptom == symptom
    assert re.search(figure, warning.figure), warning.figure


@pytest.mark.parametrize("illness", ILLNESSES)
def test_a_warning_is_one_line_with_two_settings_that_exist(illness):
    (warning,) = health_warnings(ill(**ILLNESSES[illness][2]))
    text = str(warning)
    assert "\n" not in text
    assert text.startswith(f"{warning.symptom}: {warning.figure}. Try ")
    keys = re.findall(r"--config\.([a-z0-9_.]*[a-z0-9_])", text)
    assert len(set(keys)) == 2
    for key in keys:
        node = default_config()
        for part in key.split("."):
            node = node[part]  # KeyError: no such setting


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_a_healthy_run(seed):
    history = healthy(seed=seed)
    for i in range(1, len(history) + 1):
        assert health_warnings(history[:i]) == []


@pytest.mark.parametrize(
    "changes",
    [
        SURE,  # a critic that separates everything but still teaches
        dict(norm__grad_g=lambda v, i: 0.01 * v),  # G has converged while D is unsure
        dict(health__variety=lambda v, i: 0.85 * v),
        dict(health__overfitting=lambda v, i: v + (0.6 if i == 29 else 0.0)),  # one odd check
        dict(logits__real=lambda v, i: v + i, logits__fake=lambda v, i: v + i),  # a drift without a gap
        dict(loss__g=lambda v, i: v if i % 10 else 1e6),  # single spikes
        dict(norm__param_d=lambda v, i: 2 * v),
    ],
)
def test_no_warning_for_half_a_symptom(changes):
    assert health_warnings(ill(**changes)) == []


def test_the_first_kimg_never_warn():
    history = ill(**{k: v for _, _, changes in ILLNESSES.values() for k, v in changes.items()} | dict(begin=0))
    young = [line for line in history if line["kimg"] < WARMUP_KIMG]
    assert young
    assert health_warnings(young) == health_warnings([]) == []


def test_missing_and_non_finite_metrics_are_passed_over():
    history = healthy()
    for line in history[50:]:
        line |= {"loss/d": np.nan, "health/overfitting": np.nan}
    assert health_warnings(history) == []
    assert health_warnings([{"step": i, "kimg": 10.0 * i} for i in range(50)]) == []


def test_the_monitor_warns_when_a_symptom_appears_and_again_when_it_is_back():
    monitor = HealthMonitor()
    sick = ill(**ILLNESSES["one image"][2])
    assert monitor.check(healthy()) == []
    assert [warning.symptom for warning in monitor.check(sick)] == ["mode collapse"]
    assert monitor.check(sick) == []
    assert monitor.check(healthy()) == []
    assert [warning.symptom for warning in monitor.check(sick)] == ["mode collapse"]


def test_low_variety_counts_as_collapse_only_once_it_stops_to_rise():
    def run(*varieties):
        return [{"kimg": 64.0 * (i + 1), "health/variety": v} for i, v in enumerate(varieties)]

    assert health_warnings(run(0.1)) == []
    assert health_warnings(run(0.1, 0.2)) == []
    assert health_warnings(run(0.1, 0.2, 0.3)) == []
    assert [w.symptom for w in health_warnings(run(0.1, 0.2, 0.21))] == ["mode collapse"]
    assert [w.symptom for w in health_warnings(run(0.1, 0.1))] == ["mode collapse"]
