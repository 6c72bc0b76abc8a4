"""Checkpoints of code bases that save state dicts become runs, each net from a file of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
from jaxgan.core.checkpoint import restore_items
from jaxgan.core.errors import ConfigError
from jaxgan.gan.nets import split_answer
from jaxgan.gan.recipe import make_nets
from tests.golden import state_dicts
from tests.golden.state_dicts import CASES


@pytest.mark.parametrize("case", CASES)
def test_images_and_logits_are_those_of_the_official_code(tmp_path, case):
    facts = jaxgan.convert(state_dicts.write_case(tmp_path, case), tmp_path / "run")
    assert "MIT License" in (tmp_path / "run" / "LICENCE.txt").read_text()
    generator, golden, given = jaxgan.load(tmp_path / "run"), np.load(state_dicts.GOLDEN), state_dicts.inputs()
    g, d = make_nets(generator.config, generator.data)
    labels = jnp.asarray(given["labels"], jnp.int32)
    names = {"g": "G", "ema": "G_ema", "d": "D"}
    parts = facts["parts"].split(", ")
    assert {f"{case}/{names[part]}" for part in parts} == {name for name in golden if name.startswith(f"{case}/")}
    items, run, _ = restore_items(tmp_path / "run", None, ["g", "ema", *parts])
    assert len(run["source"]["files"]) == len(parts)
    draw = jax.jit(g.apply, static_argnames="train")
    for part in parts:
        expected = golden[f"{case}/{names[part]}"]
        if part == "d":
            images = given["x"].transpose(0, 2, 3, 1)
            answer = split_answer(jax.jit(d.apply, static_argnames="train")(items[part], images, labels, train=False))
            got, expected = answer[0], expected.ravel()
        else:
            images = draw(items[part], given["z"], labels, train=False)
            got = images.transpose(0, 3, 1, 2)[..., :: state_dicts.STRIDE, :: state_dicts.STRIDE]
        assert expected.std() > 0.05
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
