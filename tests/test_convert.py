"""Networks of other code bases become runs, and nothing in their files is run or imported."""

import builtins
import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
import jaxgan.conversion.run  # before tests forbid to run anything
from jaxgan.commands import convert as command
from jaxgan.conversion.objects import PERSISTENT
from jaxgan.core.checkpoint import restore_items
from jaxgan.core.errors import ConfigError
from jaxgan.gan.nets import split_answer
from jaxgan.gan.recipe import make_nets, recipe_from_config
from jaxgan.training.start import read_start
from tests.golden import official_nets
from tests.golden.torch_writer import Call, Global, alone, dumps

FAMILIES = ("stylegan2", "stylegan2_tf", "r3gan")


def persistent(name, state):
    meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": name, "state": state}
    return Call(PERSISTENT, meta)


def plain(name, state):
    return Call(name, state=state, new=True)


def network(state, name="dnnlib.tflib.network.Network"):
    return plain(name, state)


def content(family):
    if family == "stylegan2_tf":
        return official_nets.tf_content(network)
    return official_nets.content(family, persistent if family == "stylegan2" else plain, alone)


def write(path, value, protocol=4):
    path.write_bytes(dumps(value, protocol))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a file of each family."""
    directory = tmp_path_factory.mktemp("files")
    protocols = dict.fromkeys(FAMILIES, 4) | {"stylegan2_tf": 5}
    return {family: write(directory / f"{family}.pkl", content(family), protocols[family]) for family in FAMILIES}


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
    assert ("states no licence" if family == "r3gan" else "not commercially") in terms
    run = restore_items(runs[family], None, [])[1]
    assert list(run["source"]["files"]) == [f"{family}.pkl"]
    assert generator.data.num_images == (0 if family == "stylegan2_tf" else 300)  # TensorFlow's files do not say


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


TF_PARTS = ("G", "D", "Gs")


def built_by(name, part="D", inner=None):
    """Returns the content of a file of TensorFlow's, whose network of a part is built by another function."""
    given = content("stylegan2_tf")
    net = given[TF_PARTS.index(part)]
    (net.state["components"][inner] if inner else net).state["build_func_name"] = name
    return given


def tuned(part="D", **settings):
    """Returns the same with other settings of a part."""
    given = content("stylegan2_tf")
    given[TF_PARTS.index(part)].state["static_kwargs"] |= settings
    return given


def renamed(part, before, after):
    """Returns the same with variables of G's mapping or of D that are called otherwise."""
    given = content("stylegan2_tf")
    net = given[1] if part == "D" else given[2].state["components"][part]
    net.state["variables"] = [(name.replace(before, after), array) for name, array in net.state["variables"]]
    return given


def in_itself():
    given = content("stylegan2_tf")
    given[2].state["components"]["synthesis"] = given[2]
    return given


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
        (lambda: changed("stylegan2", faster), "G_ema's mapping network learns 1.0 times as fast"),
        (lambda: built_by("G_style", "Gs"), "its G_ema is that of the first StyleGAN, which jaxgan does not have"),
        (lambda: built_by("D_paper"), "its D is that of progressive growing"),
        (
            lambda: built_by("G_synthesis_stylegan_revised", "Gs", "synthesis"),
            "synthesis is StyleGAN2's with progressive",
        ),
        (lambda: built_by("os.system"), "its D is built by 'os.system', which"),
        (lambda: built_by({1: "x" * 999}), "its D is built by {1: 'x*[.]{3}x*'}, which"),
        (lambda: (network({"build_func_name": "G_paper"}, "tfutil.Network"),) * 3, "its G_ema is that of progressive"),
        (lambda: tuned(use_pagan=True), "its D has the setting use_pagan=True, which jaxgan's net has not"),
        (lambda: tuned("Gs", resample_kernel=[1, 2, 1]), r"G_ema has the setting resample_kernel=\[1, 2, 1\]"),
        (lambda: tuned("Gs", mapping_lrmul=0.1), "G_ema's mapping network learns 0.1 times as fast"),
        (lambda: tuned(nonlinearity=np.zeros(9, np.float32)), "its D has the setting nonlinearity=array"),
        (
            lambda: renamed("mapping", "LabelEmbed/weight", "LabelConcat/weight"),
            "its G takes classes as StyleGAN2 does",
        ),
        (lambda: renamed("D", "LabelEmbed", "Other"), "its D has a logit for each class"),
        (lambda: renamed("D", "16x16/Conv0/", "4x4/FromRGB/"), "its D has the architecture skip"),
        (lambda: renamed("D", "Output/bias", "Output/more"), "D has no b4.out.bias"),
        (lambda: renamed("D", "16x16/Skip/weight", "PAGAN/weight"), "D has what jaxgan's net has not: PAGAN/weight"),
        (in_itself, "its G_ema's synthesis is built by 'G_main'"),
        (lambda: (network({"build_func_name": "G_main", "components": 7}),) * 3, "mapping is built by None"),
        (lambda: (network(None),) * 3, "is built by None"),
        (lambda: (network({}),) * 2, "holds no networks of"),
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
        (lambda: Call("numpy.core.numeric._frombuffer", b"1234", Call("numpy.dtype", "f4"), (9,), "C"), "reshape"),
        (lambda: Call("numpy.core.numeric._frombuffer", "1234", Call("numpy.dtype", "f4"), (1,), "C"), "holds str"),
        (lambda: TF_PARTS, "holds no networks of"),
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


def test_any_text_is_no_file_of_networks(tmp_path):
    (tmp_path / "f.pkl").write_text("hello")  # which is "get what was kept as number 101" to a pickle
    with pytest.raises(
        ConfigError,
        match=r"f\.pkl is not a file of networks that can be read safely: .* its value 101, which is not there$",
    ):
        jaxgan.convert(tmp_path / "f.pkl", tmp_path / "run")


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"^file='.*nothing\.pkl': there is no such file"):
        jaxgan.convert(tmp_path / "nothing.pkl", tmp_path / "run")


def test_defaults_are_those_of_the_function_that_built_a_net(tmp_path):
    given = tuned(fmap_decay=1.0)
    d = given[1].state
    del d["static_kwargs"]["mbstd_group_size"]
    for name, function, size in (("ada", "D_main", 2**20), ("before", "D_stylegan2", 4)):  # the whole batch; 4
        d["build_func_name"] = function
        jaxgan.convert(write(tmp_path / f"{name}.pkl", given), tmp_path / name)
        assert jaxgan.load(tmp_path / name).config.model.d.group_size == size


def test_a_g_of_tensorflow_alone_leaves_out_a_d_that_is_none_of_jaxgans(tmp_path):
    file = write(tmp_path / "f.pkl", built_by("D_basic"))
    assert jaxgan.convert(file, tmp_path / "run", g_only=True)["parts"] == "ema, g"
