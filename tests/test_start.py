"""Runs that begin with the weights of another one, and layers that stay as they are."""

import shutil

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

import jaxgan
from jaxgan.core.checkpoint import Checkpoints, restore_items
from jaxgan.core.errors import ConfigError
from jaxgan.data import ArrayDataset, DataSpec
from jaxgan.gan.nets import layer_names
from jaxgan.gan.optim import Optimizer
from jaxgan.gan.recipe import recipe_from_config
from jaxgan.gan.state import init_state
from jaxgan.models import MODELS
from jaxgan.settings import default_config
from jaxgan.training.loop import train
from jaxgan.training.resume import checkpoint_items
from jaxgan.training.start import read_start
from tests.helpers import DenseDiscriminator, assert_same_bits, initial_state, run, sgd, tiny_recipe

STYLED = {"model.g.w_dim": 8, "model.g.mapping_layers": 1, "model.d.mapping_layers": 1, "model.d.group_size": 2}


def config_of(name="stylegan2", classes=0, **changes):
    config = default_config()
    config.data.image_size, config.model.name, config.model.z_dim, config.batch_size = 8, name, 8, 4
    config.model.g.channels = config.model.d.channels = (4, 4)
    config.model.conditional = classes > 0
    config.update_from_flattened_dict((STYLED if name == "stylegan2" else {}) | changes)
    return config


def recipe_of(config, classes=0, channels=3):
    return recipe_from_config(config, DataSpec(8, channels, classes, 100, ""))


def random_state(recipe, seed):
    """Returns a state of random numbers, without compiling anything."""
    draw = np.random.default_rng(seed)
    abstract = jax.eval_shape(init_state, recipe, jax.random.key(0))
    state = jax.tree.map(lambda x: np.asarray(draw.normal(size=x.shape), x.dtype), abstract)
    for name in ("g", "d"):
        net = getattr(state, name)
        zeros = jax.tree.map(np.zeros_like, net.opt_state)
        state = state.replace(**{name: net.replace(opt_state=zeros)})
    return state


def save_state(workdir, config, classes, state):
    about = {"config": config.to_dict(), "data": DataSpec(8, 3, classes, 100, "")._asdict(), "licence": "mine"}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(7, checkpoint_items(state), about)
    return state, str(workdir)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Returns a state for three classes of colour images, and where it is."""
    config = config_of(classes=3)
    return save_state(tmp_path_factory.mktemp("source"), config, 3, random_state(recipe_of(config, 3), 0))


def started(config, classes, channels=3):
    recipe = recipe_of(config, classes, channels)
    fresh = random_state(recipe, 1).replace(step=np.int32(0))
    start = read_start(config, recipe)
    return fresh, jax.device_get(start.put_into(fresh, recipe)), start


def test_weights_are_taken_and_optimizers_begin(source):
    state, path = source
    fresh, begun, start = started(config_of(classes=3, init_from=path), 3)
    for name in ("g", "d"):
        assert_same_bits(getattr(begun, name).variables, getattr(state, name).variables)
        assert_same_bits(getattr(begun, name).opt_state, getattr(fresh, name).opt_state)
    assert_same_bits(begun.ema, state.ema)
    assert begun.step == 0
    assert start.facts == {"begins with": f"g, d, ema of step 7 of {path}", "their licence": "mine"}


def test_parts_that_are_not_named_begin_anew(source):
    state, path = source
    fresh, begun, start = started(config_of(classes=3, init_from=path, init_parts=("g",)), 3)
    assert_same_bits(begun.g.variables, state.g.variables)
    assert_same_bits(begun.ema, state.g.variables)
    assert_same_bits(begun.d.variables, fresh.d.variables)
    assert start.facts["begins with"].startswith("g of step 7 of ")


def test_a_part_that_is_not_there_is_named(source, tmp_path):
    state, path = source
    _, run_there, _ = restore_items(path, None, [])
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(0, {"g": state.g.variables, "ema": state.ema}, run_there)
    message = r"^config\.init_parts=\('g', 'd', 'ema'\): .* has no item 'd': there is ema, g; take only what is there$"
    with pytest.raises(ConfigError, match=message):
        started(config_of(classes=3, init_from=str(tmp_path)), 3)


@pytest.mark.parametrize(
    ("classes", "channels", "anew"),
    [
        (2, 3, "mapping_net/classes of g; mapping/classes of d; mapping_net/classes of ema"),
        (0, 3, "mapping_net/dense_0 of g; logit of d; mapping_net/dense_0 of ema"),
        (
            3,
            1,
            "synthesis_net/to_rgb_0, synthesis_net/to_rgb_1 of g; from_rgb of d; "
            "synthesis_net/to_rgb_0, synthesis_net/to_rgb_1 of ema",
        ),
    ],
)
def test_what_depends_on_classes_or_channels_begins_anew_and_is_named(source, classes, channels, anew):
    state, path = source
    fresh, begun, start = started(config_of(classes=classes, init_from=path), classes, channels)
    assert start.facts["begins anew"] == anew
    for name in ("g", "d"):
        flat = (traverse_util.flatten_dict(getattr(s, name).variables, sep="/") for s in (begun, state, fresh))
        begun_flat, old, new = flat
        for key, value in begun_flat.items():
            same = key in old and old[key].shape == value.shape
            np.testing.assert_array_equal(value, old[key] if same else new[key], err_msg=key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": "/nowhere"}, r"config\.init_from='/nowhere': no checkpoint in /nowhere"),
        ({"init_parts": ("g", "h")}, r"config\.init_parts=\('g', 'h'\): choose from g, d, ema, each once"),
        ({"init_parts": ()}, r"config\.init_parts=\(\): choose"),
        (
            {"model.g.channels": (8, 4)},
            r"config\.init_from='.*': g does not fit: .*/const is \[4, 4, 4\] there and \[4, 4, 8\] here; .* more; "
            r"it was trained with --config\.model\.g\.channels=4,4$",
        ),
        ({"model.d.group_channels": 2}, r"d does not fit: .*conv/kernel .*--config\.model\.d\.group_channels=None$"),
        ({"model.z_dim": 9}, r"g does not fit: .*--config\.model\.z_dim=8$"),
        ({"model.name": "mlp"}, r"g does not fit: .*absent.*--config\.model\.name=stylegan2"),
    ],
)
def test_what_does_not_fit_is_listed(source, changes, message):
    config = config_of(classes=3, **({"init_from": source[1]} | changes))
    if config.model.name == "mlp":
        config.update_from_flattened_dict(dict.fromkeys(STYLED))
    with pytest.raises(ConfigError, match=message) as error:
        read_start(config, recipe_of(config, 3))
    assert "\n" not in str(error.value)


def test_a_frozen_layer_cannot_begin_anew(source):
    config = config_of(classes=3, init_from=source[1], **{"freeze.d_layers": 1})
    with pytest.raises(ConfigError, match=r"^config\.freeze: d's from_rgb begins anew"):
        read_start(config, recipe_of(config, 3, channels=1))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("stylegan2", {"freeze.d_layers": 1}, r"config\.freeze\.d_layers=1: .*name a run in config\.init_from"),
        (
            "stylegan2",
            {"freeze.d_layers": -1},
            r"config\.freeze\.d_layers=-1: must be in 0 \.\. 5, as .*from_rgb, conv_0a",
        ),
        ("stylegan2", {"freeze.d_layers": 6}, r"config\.freeze\.d_layers=6: must be in 0 \.\. 5"),
        (
            "stylegan2",
            {"freeze.g_layers": 6, "freeze.mapping": True, "init_from": "x"},
            r"config\.freeze\.g_layers=6: leaves nothing of G",
        ),
        (
            "stylegan2",
            {"freeze.mapping": True, "init_from": "x", "init_parts": ("d",)},
            r"config\.freeze\.mapping=True: .*with g in init_p",
        ),
        (
            "mlp",
            {"freeze.mapping": True, "init_from": "x"},
            r"config\.freeze\.mapping=True: mlp has no mapping network; stylegan2 has",
        ),
        ("mlp", {"freeze.g_layers": 5, "init_from": "x"}, r"config\.freeze\.g_layers=5: leaves nothing of G to train"),
    ],
)
def test_freezing_that_cannot_work(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe_of(config_of(name, **changes))


@pytest.mark.parametrize(
    ("name", "index", "first", "last"),
    [
        ("stylegan2", 0, "synthesis_net/const", "synthesis_net/to_rgb_1"),
        ("stylegan2", 1, "from_rgb", "logit"),
        ("sngan", 1, "conv_0a", "logit"),
        ("r3gan", 1, "pixels", "dense"),
        ("r3gan2", 0, "dense", "gain"),
        ("biggan", 0, "dense", "pixels"),
        ("dcgan", 1, "conv_0a", "logit"),
    ],
)
def test_layers_are_told_in_the_order_of_their_use(name, index, first, last):
    size = 16 if name in ("sngan", "biggan", "dcgan") else 8
    widths = {"stylegan2": (4, 4), "r3gan": (16, 16), "r3gan2": (16,)}.get(name, (8, 8, 8))
    fields = dict(group_width=16) if name.startswith("r3gan") else {}
    net = MODELS[name][index](image_size=size, channels=widths, **fields)
    names = layer_names(net, (size, size, 3) if index else (8,))
    assert (names[0], names[-1]) == (first, last)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("optimizer", [sgd(), Optimizer(optax.adamw, {"learning_rate": 0.1, "weight_decay": 0.1})])
def test_frozen_parameters_keep_their_bits(optimizer):
    class Rounding(DenseDiscriminator):
        @staticmethod
        def normalise_params(params):
            return jax.tree.map(lambda x: 0.5 * x, params)

    recipe = tiny_recipe(
        discriminator=Rounding(),
        optimizer_g=optimizer.replace(frozen=("dense",)),
        optimizer_d=optimizer.replace(frozen=("dense",)),
    )
    before, (after, _) = initial_state(recipe), run(recipe, 2)
    for old, new in ((before.g.params, after.g.params), (before.d.params, after.d.params)):
        assert_same_bits(new["dense"], old["dense"])
        moved = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)]
        assert sum(moved) >= 2
    assert_same_bits(after.ema["params"]["dense"], before.g.params["dense"])


def test_minus_zero_is_kept():
    optimizer = Optimizer(optax.sgd, {"learning_rate": 0.1}, frozen=("a",))
    old, new = {"a": {"w": np.float32([-0.0])}, "ab": np.zeros(1)}, {"a": {"w": np.float32([0.0])}, "ab": np.ones(1)}
    kept = optimizer.keep_frozen(new, old)
    assert np.signbit(kept["a"]["w"]).all()
    assert kept["ab"] == 1


@pytest.mark.slow
def test_a_run_begins_with_another_and_goes_on_without_it(tmp_path, capsys):
    config = config_of("mlp")
    config.train_kimg, config.log.trackers, config.sample.grid = 0.004, (), 2
    state = random_state(recipe_of(config), 0)
    state = state.replace(ema=jax.tree.map(np.abs, state.ema))  # variances are
    _, path = save_state(tmp_path / "first", config, 0, state)
    dataset = ArrayDataset(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8))
    config.init_from, config.freeze.d_layers = path, 2
    train(config, tmp_path / "second", dataset)
    assert f"g, d, ema of step 7 of {path}" in capsys.readouterr().out
    after = restore_items(tmp_path / "second", None, ["d"])[0]["d"]["params"]
    for name in ("conv_0", "conv_1"):
        assert_same_bits(after[name], state.d.params[name])
    assert not np.array_equal(after["logit"]["kernel"], state.d.params["logit"]["kernel"])
    shutil.rmtree(path)
    train(config, tmp_path / "second", dataset)
    assert "begins with" not in capsys.readouterr().out
    assert jaxgan.load(tmp_path / "second").step == 1


def test_nothing_is_written_where_nothing_fits(tmp_path):
    config = config_of("mlp", init_from=str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"^config\.init_from='.*nothing': no checkpoint in "):
        train(config, tmp_path / "run", ArrayDataset(np.zeros((16, 8, 8, 3), np.uint8)))
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_recipe_for_few_images_trains(tmp_path):
    config = jaxgan.config("finetune")
    changes = {
        **{"data.image_size": 8, "model.z_dim": 8, "batch_size": 8, "dtype": "float32", "log.trackers": ()},
        **{"model.g.channels": (8, 8), "model.d.channels": (8, 8), "model.g.w_dim": 8, "model.g.mapping_layers": 1},
        **{"penalty.r1.interval": 2, "penalty.path.interval": 2, "log.every_kimg": 0.016, "train_kimg": 0.032},
        **{"sample.grid": 2, "eval.num_samples": 16},
    }
    config.update_from_flattened_dict(changes)
    state = random_state(recipe_of(config), 0)
    _, config.init_from = save_state(tmp_path / "source", config, 0, state)
    dataset = ArrayDataset(np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), np.uint8))
    assert train(config, tmp_path / "run", dataset) == 0
    items, _, step = restore_items(tmp_path / "run", None, ["d", "ema"])
    assert step == 4
    for name in ("from_rgb", "conv_0a", "conv_0b", "skip_0"):
        assert_same_bits(items["d"]["params"][name], state.d.params[name])
    assert not np.array_equal(items["d"]["params"]["conv"]["kernel"], state.d.params["conv"]["kernel"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(items))
