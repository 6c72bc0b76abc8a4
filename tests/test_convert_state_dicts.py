"""Checkpoints of code bases that save state dicts become runs, each net from a file of its own."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
from jaxgan.conversion import spectral
from jaxgan.conversion.state_dicts import files_of
from jaxgan.core.checkpoint import restore_items
from jaxgan.core.errors import ConfigError
from jaxgan.gan.nets import split_answer
from jaxgan.gan.recipe import make_nets
from tests.golden import state_dicts, torch_writer
from tests.golden.torch_writer import Call


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("mimicry/sngan", marks=pytest.mark.long),
        pytest.param("mimicry/sagan", marks=pytest.mark.long),
        pytest.param("biggan_pytorch/biggan", marks=pytest.mark.slow),
        pytest.param("studiogan/sagan", marks=pytest.mark.long),
        "studiogan/dcgan",
    ],
)
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


SNGAN, BIGGAN, STUDIO, DCGAN = "mimicry/sngan", "biggan_pytorch/biggan", "studiogan/sagan", "studiogan/dcgan"


def renamed(part, old, new):
    """Returns a change that renames arrays of a part."""

    def change(of, arrays):
        if of == part:
            for name in [name for name in arrays if name.startswith(old)]:
                arrays[new + name.removeprefix(old)] = arrays.pop(name)

    return change


def plain(part):
    """Returns a change that leaves out what spectral norm keeps."""

    def change(of, arrays):
        for name in list(arrays) if of == part else ():
            if name.endswith(("weight_u", "weight_v", "u0", "sv0")):
                del arrays[name]
            elif name.endswith("_orig"):
                arrays[name.removesuffix("_orig")] = arrays.pop(name)

    return change


def added(part, name, *shape):
    def change(of, arrays):
        if of == part:
            arrays[name] = np.ones(shape, np.float32)

    return change


def filled(part, name, value):
    def change(of, arrays):
        if of == part:
            arrays[name] = np.full_like(arrays[name], value)

    return change


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        (SNGAN, plain("D"), "its D is DCGAN's or WGAN-GP's, and the file does not say which"),
        (SNGAN, added("D", "l_y.weight", 4, 8), "its D is SSGAN's"),
        (SNGAN, renamed("D", "block", "local_feat_blocks."), "its D is InfoMax-GAN's or another"),
        (SNGAN, added("G", "l1.weight", 36 * 8, 16), "its G begins from a map of 36 pixels"),
        (SNGAN, added("G", "extra", 3), "G has what jaxgan's net has not: extra"),
        (SNGAN, added("D", "block2.c1.weight_v", 7), "block2.c1 has a vector of 7 numbers for 72"),
        (SNGAN, added("G", "block3.c1.weight_orig", 8), r"block3.c1 has a weight of the shape \[8\]"),
        (SNGAN, renamed("G", "l1", "l2"), "holds no networks of .* or StudioGAN, or no generator"),
        (SNGAN, added("G", "l1.weight"), r"l1 has a weight of the shape \[\]"),
        (SNGAN, filled("G", "l1.weight", np.nan), r"G has values that are not finite: l1\.weight"),
        (SNGAN, filled("D", "l5.bias", np.inf), r"D has values that are not finite: l5\.bias"),
        (SNGAN, filled("G", "block2.b1.running_var", -1), r"G has variances below 0: block2\.b1\.running_var"),
        (BIGGAN, plain("G"), "its G has no spectral norm"),
        (BIGGAN, added("G", "blocks.0.0.conv3.weight", 8, 8, 3, 3), "its G is BigGAN-deep's"),
        (BIGGAN, added("G", "blocks.0.0.bn1.gain.weight", 8, 6), r"no z in its blocks \(no --hier\)"),
        (STUDIO, plain("D"), "its D has batch norm in place of spectral norm"),
        (STUDIO, added("D", "linear2.bias", 8), "its D embeds images with a bias"),
        (STUDIO, renamed("D", "embedding", "embedding_mi"), "its D has classes in its logits"),
        (STUDIO, renamed("G", "blocks", "stages"), "its G has a backbone that jaxgan does not have"),
        (DCGAN, added("G", "blocks.1.0.deconv0.u0", 1, 8), "spectral norm on transposed convolutions"),
        (DCGAN, renamed("G", "blocks.2", "blocks.3"), "its G is a deep_conv of 2 blocks"),
    ],
)
def test_what_jaxgan_does_not_have_is_one_line(tmp_path, case, change, message):
    file = state_dicts.write_case(tmp_path, case, change)
    with pytest.raises(ConfigError, match=rf"^file='.*\.pth': .*({message})") as error:
        jaxgan.convert(file, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_g_alone_becomes_a_run_where_d_does_not(tmp_path):
    file = state_dicts.write_case(tmp_path, SNGAN, plain("D"))
    facts = jaxgan.convert(file, tmp_path / "run", g_only=True)
    assert facts["parts"] == "g"
    assert facts["assumed"].startswith("G ends in tanh; ")  # D would have told
    items, _, _ = restore_items(tmp_path / "run", None, ["g", "ema"])
    np.testing.assert_array_equal(items["g"]["params"]["dense"]["bias"], items["ema"]["params"]["dense"]["bias"])


def test_names_that_data_parallel_gives(tmp_path):
    file = state_dicts.write_case(tmp_path, SNGAN, lambda part, arrays: renamed(part, "", "module.")(part, arrays))
    assert jaxgan.convert(file, tmp_path / "run")["parts"] == "g, d"


@pytest.mark.parametrize("out", ["link", "x" * 300])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, out):
    file = state_dicts.write_case(tmp_path, SNGAN)
    (tmp_path / "link").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=rf"^out='.*{out}': (must not exist|cannot be written: )") as error:
        jaxgan.convert(file, tmp_path / out)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_files_of_a_checkpoint_belong_together_by_their_names(tmp_path):
    names = ["G_a.pth", "D_a.pth", "G_ema_a.pth", "G_b.pth", "G_optim_a.pth", "other.pth", "model=D-a.pth"]
    names += ["netG/netG_9.pth", "netD/netD_9.pth", "netD/netD_8.pth"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(name):
        return {part: str(path.relative_to(tmp_path)) for part, path in files_of(tmp_path / name).items()}

    assert found("D_a.pth") == found("G_ema_a.pth") == {"G": "G_a.pth", "G_ema": "G_ema_a.pth", "D": "D_a.pth"}
    assert found("G_b.pth") == {"G": "G_b.pth"}
    assert found("other.pth") == {"G": "other.pth"}
    assert found("model=D-a.pth") == {"D": "model=D-a.pth"}
    assert found("netG/netG_9.pth") == found("netD/netD_9.pth") == {"G": "netG/netG_9.pth", "D": "netD/netD_9.pth"}


def test_nothing_in_a_file_beside_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "system", lambda *args: pytest.fail("the file ran something"))
    file = state_dicts.write_case(tmp_path, SNGAN)
    d = tmp_path / state_dicts.file_name(SNGAN, "D")
    for hostile in (Call("os.system", "false"), {"model_state_dict": {"a": Call("os.system", "false")}}, [1]):
        torch_writer.legacy_file(d, torch_writer.dumps(hostile))
        with pytest.raises(ConfigError, match=r"netD_3_steps.pth holds no state dict"):
            jaxgan.convert(file, tmp_path / "run")
    whole = file.read_bytes()
    for length in range(20, len(whole), len(whole) // 9):
        file.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"^file='.*netG_3_steps\.pth': "):
            jaxgan.convert(file, tmp_path / "run")


@pytest.mark.parametrize(("rows", "columns"), [(9, 4), (4, 9)])
def test_spectral_states_make_the_norms_that_two_vectors_make(rows, columns):
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(rows, columns))
    u = spectral.unit(draw.normal(size=columns))
    for _ in range(2):  # far from having converged
        v = spectral.unit(matrix @ u)
        u = spectral.unit(matrix.T @ v)
    older = matrix + 0.02 * draw.normal(size=matrix.shape)  # as a weight before a step of training
    for m in (matrix, older):
        kept = spectral.kernel_state(m, u, v)
        np.testing.assert_allclose(kept["sigma"], v @ m @ u, rtol=1e-5)
    kept = spectral.table_state(matrix.T, u, spectral.unit(matrix @ u))
    np.testing.assert_allclose(kept["sigma"], np.linalg.norm(matrix @ u), rtol=1e-5)
    assert kept["u"].shape == (1, rows)
    with pytest.raises(ValueError, match="which no power iteration makes"):
        spectral.kernel_state(matrix, -u, v)
