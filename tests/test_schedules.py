"""Schedules in words: their closed forms, and which of them hang on the length of the run."""

import math

import jax
import numpy as np
import pytest

from jaxgan.gan.schedules import Schedule, depends_on_run_length, parse_schedule


def values(start, text, kimg, run_kimg=5.0):
    schedule = parse_schedule(start, text, run_kimg)
    return np.asarray(jax.jit(jax.vmap(schedule))(1e3 * np.asarray(kimg, np.float32)))


CLOSED_FORMS = {
    ("constant", 2.0): {0: 2, 3: 2, 9: 2},
    ("linear to 1", 2.0): {0: 2, 2.5: 1.5, 5: 1, 9: 1},
    ("linear to 1 in 2 kimg", 2.0): {0: 2, 1: 1.5, 2: 1, 9: 1},
    ("linear to 3e-1 in 1e1 kimg", 0.0): {0: 0, 5: 0.15, 10: 0.3},
    ("cosine to 0 in 4 kimg", 1.0): {0: 1, 1: 0.5 + 0.5 * math.cos(math.pi / 4), 2: 0.5, 4: 0, 9: 0},
    ("cosine to 3", 1.0): {0: 1, 2.5: 2, 5: 3},
    ("warmup 1 kimg, constant", 2.0): {0: 0, 0.5: 1, 1: 2, 9: 2},
    ("warmup 1 kimg, linear to 0", 2.0): {0: 0, 0.5: 1, 1: 2, 3: 1, 5: 0},  # over what the warm-up leaves
    ("warmup 1 kimg, linear to 1 in 2 kimg", 2.0): {0.5: 1, 1: 2, 2: 1.5, 3: 1, 9: 1},
    # EDM2's lr * min(n / warm-up, 1) / sqrt(max(n / K, 1)), both from the run's first image
    ("inverse sqrt from 0.512 kimg", 4.0): {0: 4, 0.5: 4, 0.512: 4, 2.048: 2, 51.2: 0.4},
    ("warmup 1 kimg, inverse sqrt from 0.512 kimg", 1.0): {0.25: 0.25, 1: math.sqrt(0.512), 2.048: 0.5},
}


@pytest.mark.parametrize(("text", "start"), CLOSED_FORMS)
def test_closed_form(text, start):
    points = CLOSED_FORMS[text, start]
    np.testing.assert_allclose(values(start, text, list(points)), list(points.values()), rtol=2e-6, atol=1e-7)


def test_r3gan2_learning_rate():
    """Its peak and its ends, as derived from the published rule."""
    text = "warmup 1000 kimg, inverse sqrt from 512 kimg"
    np.testing.assert_allclose(values(1e-2, text, [1e3, 2e4, 2.5e5]), [7.155e-3, 1.6e-3, 4.525e-4], rtol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "", "linear", "linear to", "linear to x", "linear to -1", "linear to inf", "linear to 1 in 0 kimg", "constant ",
        "step to 1", "warmup 1 kimg", "warmup 1 kimg,constant", "warmup -1 kimg, constant", "inverse sqrt from 0 kimg",
        "linear to 1 in 2", "cosine to nan",
    ],
)  # fmt: skip
def test_what_is_no_schedule(text):
    with pytest.raises(ValueError, match="kimg"):
        parse_schedule(1.0, text, 1.0)


def test_which_depend_on_the_length_of_the_run():
    depend = {text for text, _ in CLOSED_FORMS if depends_on_run_length(text)}
    assert depend == {"linear to 1", "cosine to 3", "warmup 1 kimg, linear to 0"}


def test_zero_means_always_zero():
    zero = {
        (start, text)
        for start in (0.0, 1.0)
        for text in ("constant", "linear to 0", "cosine to 2", "inverse sqrt from 1 kimg")
        if parse_schedule(start, text, 1.0).is_zero
    }
    assert zero == {(0.0, "constant"), (0.0, "linear to 0"), (0.0, "inverse sqrt from 1 kimg")}


def test_numbers_are_leaves_and_may_be_mapped_over():
    schedules = [parse_schedule(start, "warmup 1 kimg, linear to 0 in 2 kimg", 5.0) for start in (1.0, 3.0)]
    stacked = jax.tree.map(lambda *numbers: np.array(numbers), *schedules)
    values = jax.vmap(Schedule.__call__, in_axes=(0, None))(stacked, 2000.0)
    np.testing.assert_allclose(values, [0.5, 1.5], rtol=1e-6)
    assert len(jax.tree.leaves(schedules[0])) == 4
