"""Networks of other code bases become runs, and nothing in their files is run or imported."""

import builtins
import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
from jaxgan.commands import convert as command
from jaxgan.conversion.objects import PERSISTENT
from jaxgan.core.checkpoint import restore_items
from jaxgan.core.errors import ConfigError
from jaxgan.gan.nets import split_answer
from jaxgan.gan.recipe import make_nets, recipe_from_config
from jaxgan.training.start import read_start
from tests.golden import official_nets
from tests.golden.torch_writer import Call, Global, alone, dumps

FAMILIES = ("stylegan2", "r3gan")


def persistent(name, state):
    meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": name, "state": state}
    return Call(PERSISTENT, meta)


def plain(name, state):
    return Call(name, state=state, new=True)


def content(family):
    return official_nets.content(family, persistent if family == "stylegan2" else plain, alone)


def write(path, value, protocol=4):
    path.write_bytes(dumps(value, protocol))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a file of each family."""
    directory = tmp_path_factory.mktemp("files")
    return {family: write(directory / f"{family}.pkl", content(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def runs(files, tmp_path_factory):
    """Returns the run that each file becomes."""
    directory = tmp_path_factory.mktemp("runs")
    for family, file in files.items():
        jaxgan.convert(file, directory / family)
    return {family: directory / family for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_images_and_logits_are_those_of_the_official_code(runs, family):
    golden = np.load(official_nets.GOLDEN)
    generator = jaxgan.load(runs[family])
    items, _, step = restore_items(runs[family], None, ["g", "d", "ema"])
    assert step == 0
    g, d = make_nets(generator.config, generator.data)
    given = official_nets.inputs(g.image_size)
    labels = jnp.asarray(given["labels"], jnp.int32)
    draw, judge = (jax.jit(net.apply, static_argnames="train") for net in (g, d))
    for part, key in (("g", "G"), ("ema", "G_ema")):
        images = draw(items[part], given["z"], labels, train=False)
        expected = golden[f"{family}/{key}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(images, expected, atol=1e-4 * np.abs(expected).max())
        assert expected.std() > 0.1
    answer = judge(items["d"], given["x"].transpose(0, 2, 3, 1), labels, train=False)
    expected = golden[f"{family}/D"].ravel()
    np.testing.assert_allclose(split_answer(answer)[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_of_a_file_begins_another_and_keeps_its_terms(runs, family):
    generator = jaxgan.load(runs[family])
    assert generator.num_classes == 3
    config = jaxgan.settings.from_dict(generator.config.to_dict())
    config.init_from, config.batch_size = str(runs[family]), 4
    recipe = recipe_from_config(config, generator.data)
    start = read_start(config, recipe)
    assert "begins anew" not in start.facts
    assert set(start.arrays) == {"g", "d", "ema"}
    terms = (runs[family] / "LICENCE.txt").read_text()
    assert start.facts["their licence"] in terms
    assert {"stylegan2": "not commercially", "r3gan": "states no licence"}[family] in terms
    run = restore_items(runs[family], None, [])[1]
    assert list(run["source"]["files"]) == [f"{family}.pkl"]
    assert generator.data.num_images == 300


def test_the_command_says_what_came_of_a_file(files, tmp_path, capsys):
    assert command.main([str(files["r3gan"]), str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["from", "R3GAN"]
    assert lines[1].split() == ["nets", "r3gan,", "8x8,", "3", "channels,", "3", "classes"]
    assert lines[3].startswith("licence  the repository of R3GAN states no licence")
    assert command.main([str(files["r3gan"]), f"--out={tmp_path / 'run'}"]) == 2
    assert "error: --out=" in capsys.readouterr().err
    assert command.main([str(files["r3gan"])]) == 2
    assert capsys.readouterr().err.startswith("error: --out is not given")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_file_without_g_or_d_has_the_average_for_its_g(tmp_path):
    given = content("r3gan")
    given["G"] = given["D"] = None
    jaxgan.convert(write(tmp_path / "f.pkl", given), tmp_path / "run")
    items, _, _ = restore_items(tmp_path / "run", None, ["g", "ema"])
    np.testing.assert_array_equal(items["g"]["params"]["basis"], items["ema"]["params"]["basis"])
    with pytest.raises(OSError, match="has no item 'd'"):
        restore_items(tmp_path / "run", None, ["d"])


def changed(family, change):
    """Returns the content of a file after change(content)."""
    given = content(family)
    change(given)
    return given


def modules(net, persistently=True):
    return (net.args[0]["state"] if persistently else net.state)["_modules"]


def styled3(given):
    del modules(modules(given["G_ema"])["synthesis"])["b4"]


def summed(given):
    del modules(modules(modules(given["G_ema"])["synthesis"])["b4"])["torgb"]


def faster(given):
    modules(modules(given["G_ema"])["mapping"])["fc0"].args[0]["state"]["bias_gain"] = 1.0


def unknown(given):
    modules(given["D"], False)["Model"].state["_parameters"]["Extra"] = alone(np.ones(3, np.float32))


def without(given):
    del modules(modules(given["D"], False)["Model"], False)["ExtractionLayer"]


def uneven(given):
    stage = modules(modules(modules(given["G"], False)["Model"], False)["MainLayers"], False)["1"]
    layers = modules(modules(stage, False)["Layers"], False)
    layers["2"] = layers["1"]


def endless(given):
    net = given["G_ema"]
    modules(net, False)["Model"] = net


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: changed("stylegan2", styled3), "its G is StyleGAN3's or another that jaxgan does not have"),
        (lambda: changed("stylegan2", summed), "its G has no sum of images"),
        (lambda: changed("stylegan2", faster), "its mapping network learns 1.0 times as fast"),
        (lambda: changed("r3gan", unknown), "D has what jaxgan's net has not: Model.Extra"),
        (lambda: changed("r3gan", without), "D has no Model.ExtractionLayer.Layer.weight"),
        (lambda: changed("r3gan", uneven), "G has what jaxgan's net has not: .*Layers.2"),
        (lambda: changed("r3gan", endless), "without end|recursion"),
        (lambda: {"state_dict": {}}, "holds no networks of StyleGAN2-ADA"),
        (lambda: [1, 2], "holds no networks of"),
        (lambda: {"G_ema": Global("os.system")}, "holds no networks of"),
        (lambda: {"G_ema": Call("os.system", "false")}, "holds no networks of"),
        (lambda: {"G_ema": Call(PERSISTENT, {"class_name": "Generator"})}, "its G is StyleGAN3's or another"),
        (lambda: {"G_ema": plain("training.networks.Generator", {"_modules": 7})}, "has no Model.MainLayers"),
        (lambda: {(1, 2): 3}, "a tuple as a key"),
        (lambda: Call("torch.storage._load_from_bytes", b"cos\nsystem\n(S'false'\ntR."), "uses the instruction"),
        (
            lambda: Call("torch.storage._load_from_bytes", dumps(Call("os.system", "false"))),
            "a storage starts like none",
        ),
        (lambda: Call("numpy._core.multiarray.scalar", Call("numpy.dtype", "O8", False, True), b"x"), "type .*O8"),
        (
            lambda: Call("numpy.core.multiarray._reconstruct", Global("numpy.ndarray"), (0,), b"b", state=(1, (9,))),
            "unpack|values",
        ),
    ],
)
def test_what_is_no_such_file_is_one_line(tmp_path, monkeypatch, value, message):
    def execute(*args):
        raise AssertionError(f"the file ran {args}")

    monkeypatch.setattr(os, "system", execute)
    monkeypatch.setattr(builtins, "exec", execute)
    file = write(tmp_path / "hostile.pkl", value())
    with pytest.raises(ConfigError, match=rf"^file='.*hostile\.pkl': .*({message})") as error:
        jaxgan.convert(file, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pkl"]


def test_numbers_that_many_tensors_share_are_counted(tmp_path):
    one = alone(np.zeros(2**16, np.float32), False)
    shared = one.args[0]
    many = [Call(one.function.name, shared, *one.args[1:]) for _ in range(100)]
    with pytest.raises(ConfigError, match="tensors share their numbers beyond all measure"):
        jaxgan.convert(write(tmp_path / "f.pkl", {"G_ema": many}), tmp_path / "run")


def test_a_file_that_is_cut_short_is_one_error(files, tmp_path):
    whole, file = files["r3gan"].read_bytes(), tmp_path / "cut.pkl"
    for length in [0, 1, 20, *range(50, len(whole), len(whole) // 7), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"^file='.*cut\.pkl': ") as error:
            jaxgan.convert(file, tmp_path / "run")
        assert "\n" not in str(error.value)
    draw = np.random.default_rng(0)
    for _ in range(20):  # any bytes: read as something else, or refused, but no other error
        data = bytearray(whole)
        for at in draw.integers(len(data), size=20):
            data[at] = draw.integers(256)
        file.write_bytes(data)
        with contextlib.suppress(ConfigError):
            jaxgan.convert(file, tmp_path / f"run{_}")


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"^file='.*nothing\.pkl': there is no such file"):
        jaxgan.convert(tmp_path / "nothing.pkl", tmp_path / "run")
