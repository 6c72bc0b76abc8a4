"""Recipes: from a config, and with parts of one's own; and the state that belongs to them."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.core.errors import ConfigError
from jaxgan.data import DataSpec
from jaxgan.gan.augment import Augmentation, diffaugment
from jaxgan.gan.ema import ExponentialEma, PowerEma
from jaxgan.gan.losses import LOSSES, Loss
from jaxgan.gan.nets import check_net
from jaxgan.gan.optim import Optimizer
from jaxgan.gan.penalties import PENALTIES, Penalty
from jaxgan.gan.recipe import make_generator, recipe_from_config
from jaxgan.gan.schedules import Schedule
from jaxgan.gan.state import init_state
from jaxgan.gan.step import train_step
from jaxgan.models import MODELS
from jaxgan.models.layers import COMMON_FIELDS, BaseDiscriminator, BaseGenerator
from jaxgan.settings import default_config
from tests.helpers import (
    KEY,
    DenseDiscriminator,
    DenseGenerator,
    StyledGenerator,
    assert_same_bits,
    jitted_init,
    random_batches,
    relative_distance,
    run,
    sgd,
    tiny_recipe,
)


def tiny_config(**changes):
    config = default_config()
    config.model.name, config.data.image_size = "mlp", 8
    config.update_from_flattened_dict(changes)
    return config


# From a config.

BAD = [  # setting, value, what is right
    ("batch_size", 0, "above 0"),
    ("d_steps", 0, "above 0"),
    ("train_kimg", -1.0, "above 0"),
    ("model.z_dim", 0, "above 0"),
    ("dtype", "float16", "choose one of float32, bfloat16"),
    ("model.name", "stylegan9", "choose one of mlp, dcgan"),
    ("model.conditioning", "ac", "set config.model.conditional=True"),
    ("model.fake_labels", "none", "choose uniform or real"),
    ("model.g.channels", (64, 64, 64), "8x8 pixels take 2 widths, such as (128, 1024)"),
    ("model.d.channels", (64, -1), "widths are whole numbers from 1 on, such as (64, 128)"),
    ("model.g.channels", (1.5, 64), "widths are whole numbers"),
    ("model.g.channels", ("a", "b"), "widths are whole numbers"),
    ("model.g.shared_dim", 3, "mlp has no such field; it has none of its own"),
    ("data.image_size", 99, "mlp works at squares of 8 to 64"),
    ("data.image_size", (16, 32), "mlp works at squares of 8 to 64"),
    ("loss", "hinges", "choose one of minimax"),
    ("top_k_fraction", 0.0, "above 0"),
    ("top_k_fraction", 1.5, "at most 1"),
    ("top_k_fraction_schedule", "linear to 2", "at most 1"),
    ("optim_g.name", "lion", "choose one of adam"),
    ("optim_g.lr", math.nan, "finite number, 0 or above"),
    ("optim_d.lr_schedule", "step to 0", 'give "constant", "linear to V'),
    ("optim_g.b2_schedule", "linear to 1", "in [0, 1)"),
    ("optim_d.b1", 1.0, "in [0, 1)"),
    ("optim_g.eps", 0.0, "above 0"),
    ("optim_d.b2", 1.0, "in [0, 1)"),
    ("optim_d.lr", -1.0, "finite number, 0 or above"),
    ("class_loss.weight_d", -1.0, "finite number, 0 or above"),  # although there is no class loss
    ("class_loss.weight_clear", math.inf, "finite number, 0 or above"),
    ("class_loss.confidence", 0.0, "in (0, 1]"),
    ("optim_g.momentum", 0.9, "adam has none; config.optim_g.name='sgd' has"),
    ("optim_d.weight_decay", 0.1, "adam has none; config.optim_d.name='adamw' has"),
    ("penalty.r1.weight", -0.1, "finite number, 0 or above"),
    ("penalty.gp.interval", 0, "1 or above"),
    ("penalty.path.weight", 2.0, "mlp has no styles; stylegan2 has"),
    ("augment.name", "colour", "choose one of diffaugment, ada"),
    ("augment.p", 1.5, "at most 1"),
    ("augment.p_schedule", "linear to 1.5", "at most 1"),
    ("augment.target", 1.0, "in [0, 1)"),
    ("ema.half_life_kimg", -1.0, "finite number, 0 or above"),
    ("ema.half_life_kimg_schedule", "linear to -1", "finite and 0 or above"),
    ("ema.sigma_rel", 0.3, "must be above 0 and at most 0.2887"),
    ("ema.rampup", -0.1, "finite number, 0 or above"),
]


@pytest.mark.parametrize(("setting", "value", "right"), BAD)
def test_a_bad_setting_names_itself_its_value_and_what_would_be_right(setting, value, right):
    with pytest.raises(ConfigError) as error:
        recipe_from_config(tiny_config(**{setting: value}))
    message = str(error.value)
    assert message.startswith(f"config.{setting}={value!r}: ")
    assert right in message
    assert "\n" not in message


TOGETHER = [  # settings that do not go together, and what is said of the one to blame
    ({"ema.sigma_rel": 0.1, "ema.rampup": -1.0}, "config.ema.rampup=-1.0: must be a finite number"),
    ({"ema.posthoc": (0.1,)}, "config.ema.sigma_rel=0.0: config.ema.posthoc takes a power-function EMA"),
    ({"ema.sigma_rel": 0.1, "ema.posthoc": (0.1,)}, "config.ema.posthoc=(0.1,): give relative stds, each once"),
    ({"ema.sigma_rel": 0.1, "ema.posthoc": (0.2, 0.2)}, "config.ema.posthoc=(0.2, 0.2): give relative stds"),
    ({"ema.sigma_rel": 0.1, "ema.posthoc": (0.3,)}, "config.ema.posthoc=0.3: must be above 0 and at most 0.2887"),
    (
        {"augment.target": 0.6},
        "config.augment.name='': must name an augmentation, since config.augment.target=0.6 adapts",
    ),
    (
        {"augment.target": 0.6, "augment.name": "ada", "loss": "rpgan"},
        "config.augment.target=0.6: p follows the sign of logits, of which rpgan compares only differences",
    ),
    (
        {"augment.target": 0.6, "augment.name": "ada", "augment.p_schedule": "linear to 1"},
        "config.augment.p_schedule='linear to 1': an adaptive p has none",
    ),
    (
        {"optim_g.name": "sgd", "optim_g.b2_schedule": "linear to 0.5"},
        "config.optim_g.b2_schedule='linear to 0.5': sgd has no b2",
    ),
    (
        {"model.conditional": True, "model.conditioning": "acgan"},
        "config.model.conditioning='acgan': choose one of projection, ac, multi_hinge, adc, d2dce",
    ),
    (
        {"model.conditional": True, "model.conditioning": "ac", "class_loss.weight_g": -1.0},
        "config.class_loss.weight_g=-1.0: must be a finite number, 0 or above",
    ),
    *(
        (
            {"model.conditional": True, "model.conditioning": conditioning, "class_loss.weight_clear": 0.5},
            f"config.class_loss.weight_clear=0.5: must be 0 with config.model.conditioning={conditioning!r}",
        )
        for conditioning in ("projection", "d2dce")
    ),
    (
        {"class_loss.weight_clear": 0.5},
        "config.class_loss.weight_clear=0.5: must be 0 with config.model.conditional=False",
    ),
]


@pytest.mark.parametrize(("changes", "message"), TOGETHER)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(ConfigError) as error:
        recipe_from_config(tiny_config(**changes))
    assert str(error.value).startswith(message)


def test_conditionings_are_those_of_the_architecture():
    changes = {"model.conditional": True, "model.conditioning": "ac", "model.name": "r3gan"}
    with pytest.raises(ConfigError, match=r"^config\.model\.conditioning='ac': r3gan has projection$"):
        recipe_from_config(tiny_config(**changes))


def test_what_only_the_built_nets_know_names_the_setting_too():
    changes = {"model.name": "biggan", "model.z_dim": 3, "data.image_size": 32}
    with pytest.raises(ConfigError, match=r"^config\.model\.z_dim=3: "):
        recipe_from_config(tiny_config(**changes))


def test_the_data_tells_channels_and_classes():
    grey = DataSpec(image_size=8, channels=1, num_classes=7, num_images=100, fingerprint="")
    recipe = recipe_from_config(tiny_config(**{"model.conditional": True}), grey)
    assert (recipe.image_shape, recipe.generator.num_classes, recipe.conditional) == ((8, 8, 1), 7, True)
    assert recipe.discriminator.num_classes == 7
    assert recipe.class_loss is None  # by projection
    assert make_generator(tiny_config(**{"model.conditional": True}), grey) == recipe.generator
    unlabelled = grey._replace(num_classes=0)
    assert not recipe_from_config(tiny_config(), unlabelled).conditional
    with pytest.raises(ConfigError, match=r"^config\.model\.conditional=True: cifar10 has no labels; set it to False$"):
        recipe_from_config(tiny_config(**{"model.conditional": True}), unlabelled)


def test_what_is_off_is_not_there():
    plain = recipe_from_config(tiny_config())
    assert plain.penalties_d == plain.penalties_g == plain.posthoc_ema == {}
    assert plain.class_loss is plain.augment is plain.top_k_fraction is None
    assert recipe_from_config(tiny_config(**{"augment.name": "ada", "augment.p": 0.0})).augment is None
    later = {"augment.name": "ada", "augment.p": 0.0, "augment.p_schedule": "linear to 1"}
    assert recipe_from_config(tiny_config(**later)).augment is not None
    later = {"penalty.r1.weight_schedule": "linear to 1", "penalty.fm.weight": 1.0}
    recipe = recipe_from_config(tiny_config(**later))
    assert (set(recipe.penalties_d), set(recipe.penalties_g)) == ({"r1"}, {"fm"})


def test_durations_are_counted_in_images():
    changes = {"ema.half_life_kimg": 2.0, "ema.rampup": 0.0, "optim_g.lr_schedule": "linear to 0 in 3 kimg"}
    recipe = recipe_from_config(tiny_config(**changes))
    assert recipe.ema.half_life(0.0) == 2000.0
    np.testing.assert_allclose(recipe.ema.decay(1e9, 2000), 0.5)
    np.testing.assert_allclose(recipe.optimizer_g.values(1500)["learning_rate"], 1e-4)


@pytest.mark.parametrize(
    ("changes", "batches"),
    [({}, 3), ({"loss": "rpgan"}, 4), ({"penalty.fm.weight": 1.0}, 4), ({"penalty.r1.weight": 1.0}, 3)],
)
def test_g_takes_a_batch_of_reals_where_it_looks_at_them(changes, batches):
    recipe = recipe_from_config(tiny_config(**{"d_steps": 3, "batch_size": 8}, **changes))
    assert recipe.real_batches_per_step == batches
    assert recipe.images_per_step == 24


# As a value.


def test_leaves_are_numbers_and_the_rest_is_static():
    changes = {
        "model.conditional": True,
        "model.conditioning": "ac",
        "penalty.r1.weight": 0.5,
        "augment.name": "ada",
        "augment.target": 0.6,
        "top_k_fraction": 0.5,
        "optim_g.lr": 0.125,
    }
    config = tiny_config(**changes)
    leaves, structure = jax.tree.flatten(recipe_from_config(config))
    assert all(isinstance(leaf, float | int) for leaf in leaves)
    assert {0.125, 0.5, 0.6} <= set(leaves)
    config.optim_g.lr, config.penalty.r1.weight, config.augment.target = 0.25, 1.0, 0.3
    assert jax.tree.structure(recipe_from_config(config)) == structure  # so it shares a compiled step
    config.optim_g.lr_schedule = "cosine to 0"
    assert jax.tree.structure(recipe_from_config(config)) != structure


# With parts of one's own.


class Plain(BaseDiscriminator):
    """A discriminator that returns logits and nothing else: the mean of all pixels, times a weight."""

    WIDTHS = {8: ()}  # noqa: RUF012
    batch_dependent = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None):
        return self.param("weight", nn.initializers.constant(2.0), ()) * jnp.mean(images, axis=(1, 2, 3))


def test_parts_of_ones_own_train():
    """A loss, a penalty on each net, an augmentation and optimizers of optax: one step on one image in closed form."""
    half = Augmentation(lambda keys, images, p: 0.5 * images)
    centred = Penalty(lambda inputs: jnp.square(inputs.real.logits + inputs.fake.logits), weight=Schedule(0.5))
    dark = Penalty(lambda inputs: jnp.mean(inputs.fake.images, axis=(1, 2, 3)), net="g")
    squared = Loss(lambda real, fake: (real - 1) ** 2 + (fake + 1) ** 2, lambda real, fake: (fake - 1) ** 2)
    recipe = tiny_recipe(generator=StyledGenerator(), batch_size=1).replace(
        discriminator=Plain(image_size=8),
        loss=squared,
        augment=half,
        penalties_d={"centred": centred, "r1": PENALTIES["r1"]},
        penalties_g={"dark": dark},
        optimizer_d=optax.sgd(0.25),
        optimizer_g=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3)),
    )
    before = jitted_init(recipe, KEY)
    after, (metrics,) = run(recipe, start=before)
    w = 2.0
    real, fake = (float(metrics[f"logits/{side}"]) / w for side in ("real", "fake"))  # means of halved pixels
    gradient_norm = 0.5**2 / (8 * 8 * 3)  # of the mean of halved pixels, squared
    expected = {
        "loss/d": (w * real - 1) ** 2 + (w * fake + 1) ** 2,
        "penalty/centred": (w * real + w * fake) ** 2,
        "penalty/r1": w**2 * gradient_norm,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(float(metrics[name]), value, rtol=1e-5, err_msg=name)
    slope = 2 * (w * real - 1) * real + 2 * (w * fake + 1) * fake  # of the loss, then of the penalties
    slope += 0.5 * 2 * w * (real + fake) ** 2 + 2 * w * gradient_norm
    np.testing.assert_allclose(after.d.params["weight"], w - 0.25 * slope, rtol=1e-5)
    fake = float(metrics["penalty/dark"])
    np.testing.assert_allclose(float(metrics["loss/g"]), (after.d.params["weight"] * 0.5 * fake - 1) ** 2, rtol=1e-5)
    assert relative_distance(before.g.params, after.g.params) > 1e-4
    assert "lr/d" not in metrics  # the rate of one of optax's own is not known


# The state.


def test_a_state_holds_what_its_recipe_needs():
    plain = jax.eval_shape(jitted_init, tiny_recipe(), KEY)
    assert plain.posthoc_ema == plain.running == {}
    assert set(plain.ema) == {"params", "batch_stats"}
    assert jax.tree.structure(plain.ema) == jax.tree.structure(plain.g.variables)
    adaptive = Augmentation(lambda keys, images, p: images, Schedule(0.25), adaptive=True)
    penalties = {name: PENALTIES[name] for name in ("r1", "lecam")}
    path = {"path": PENALTIES["path"]}
    state = jitted_init(
        tiny_recipe(generator=StyledGenerator(), augment=adaptive, penalties_d=penalties, penalties_g=path), KEY
    )
    assert jax.tree.map(float, state.running) == {
        "augment": {"p": 0.25},
        "lecam": {"real": 0.0, "fake": 0.0},
        "path": {"length": 0.0},
    }
    assert state.step == 0


def test_a_state_depends_on_nets_and_key_only():
    recipe = tiny_recipe()
    state = jitted_init(recipe, KEY)
    assert_same_bits(state.ema, state.g.variables)
    other = jitted_init(tiny_recipe(batch_size=64, d_steps=3, loss=LOSSES["rpgan"], optimizer_g=sgd(0.1)), KEY)
    assert_same_bits(state.g.params, other.g.params)
    assert_same_bits(state.d.variables, other.d.variables)
    another = jitted_init(recipe, jax.random.key(1))
    assert relative_distance(state.g.params["dense"]["kernel"], another.g.params["dense"]["kernel"]) > 1
    on_axis = recipe.on_axis("batch")
    assert_same_bits(state.g.params, jitted_init(on_axis, KEY).g.params)
    assert (on_axis.generator.axis_name, on_axis.discriminator.axis_name) == ("batch", "batch")


def test_averages_do_not_share_the_buffers_of_g():
    """As a step overwrites the state that it is given."""
    state = init_state(tiny_recipe(posthoc_ema={"0.1": PowerEma(6.9)}), KEY)
    trees = (state.g.variables, state.ema, state.posthoc_ema)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(trees)]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": "hinge"}, r"Recipe\.loss='hinge': give a Loss"),
        ({"penalties_d": [Penalty(abs)]}, r"Recipe\.penalties_d=.*: give \{"),
        ({"penalties_d": {"mine": abs}}, r"Recipe\.penalties_d\['mine'\]=.*give a Penalty with net='d'"),
        ({"penalties_g": {"mine": Penalty(abs)}}, r"Recipe\.penalties_g\['mine'\]=.*give a Penalty with net='g'"),
        ({"batch_size": 0}, r"Recipe\.batch_size=0: must be a whole number, 1 or above"),
        ({"d_steps": 1.5}, r"Recipe\.d_steps=1\.5: must be a whole number, 1 or above"),
        ({"fake_labels": "none"}, r"Recipe\.fake_labels='none': choose uniform or real"),
        ({"generator": None}, r"Recipe\.generator=None: give a BaseGenerator"),
        ({"generator": Plain()}, r"Recipe\.generator=<class '.*Plain'>: give a BaseGenerator"),
        ({"generator": StyledGenerator(image_size=16)}, r"generator\.image_size=16: must be .* discriminator, 8"),
        ({"generator": StyledGenerator(image_size=8, num_classes=3)}, r"generator\.num_classes=3: must be .*, 0"),
        ({"batch_size": True}, r"Recipe\.batch_size=True: must be a whole number"),
        ({"flip": "yes"}, r"Recipe\.flip='yes': give True or False"),
        ({"augment": "ada"}, r"Recipe\.augment='ada': give an Augmentation"),
        ({"augment": abs}, r"Recipe\.augment=.*: give an Augmentation"),
        ({"optimizer_g": "adam"}, r"Recipe\.optimizer_g='adam': give an Optimizer, or one of optax's"),
        ({"ema": 10.0}, r"Recipe\.ema=10\.0: give an ExponentialEma or a PowerEma"),
        ({"class_loss": "ac"}, r"Recipe\.class_loss='ac': give a ClassLoss"),
        ({"posthoc_ema": [1]}, r"Recipe\.posthoc_ema=\[1\]: give \{"),
        ({"posthoc_ema": {"0.1": 0.1}}, r"Recipe\.posthoc_ema\['0\.1'\]=0\.1: give a PowerEma"),
        ({"top_k_fraction": 0}, r"Recipe\.top_k_fraction=0\.0: must be finite, above 0, at most 1"),
        ({"top_k_fraction": Schedule(3.0)}, r"Recipe\.top_k_fraction=3\.0: must be finite, above 0, at most 1"),
        ({"top_k_fraction": "0.5"}, r"Recipe\.top_k_fraction='0\.5': give a Schedule, a number or None"),
        (
            {"penalties_d": {"mine": Penalty(abs)}, "penalties_g": {"mine": Penalty(abs, net="g")}},
            r"Recipe\.penalties_g='mine': penalties_d has this name too",
        ),
        ({"penalties_d": {"augment": Penalty(abs)}}, r"Recipe\.penalties='augment': names the running scalars"),
    ],
)
def test_parts_of_another_kind(change, words):
    with pytest.raises(ConfigError, match=words):
        tiny_recipe().replace(**change)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Schedule("x"), r"^Schedule\.start='x': give a number"),
        (lambda: Schedule(0.1, end=math.nan), r"^Schedule\.end=nan: give a number"),
        (lambda: Schedule(None), r"^Schedule\.start=None: give a number"),
        (lambda: Schedule(1.0, end=math.inf), r"^Schedule\.end=inf: give a finite number"),
        (lambda: Penalty(lambda: 0.0), r"^Penalty\.fn=.*: give a function of PenaltyInputs"),
        (lambda: Augmentation(lambda images: images), r"^Augmentation\.fn=.*: give a function of keys, images and p"),
        (lambda: Augmentation(diffaugment, target=3.0), r"^Augmentation\.target=3\.0: must be a finite number in -1"),
        (lambda: Penalty(abs, weight=-1.0), r"^Penalty\.weight=-1\.0: must be finite, 0 or above"),
        (lambda: Penalty(abs, weight=1e39), r"^Penalty\.weight=1e\+39: must be finite, 0 or above, as float32"),
        (lambda: Penalty(abs, weight=math.inf), r"^Penalty\.weight=inf: must be finite, 0 or above"),
        (lambda: Penalty(abs, weight="1"), r"^Penalty\.weight='1': give a Schedule or a number"),
        (lambda: Penalty(abs, weight=Schedule(1.0, shape="linear", end=-1.0, over=9)), r"^Penalty\.weight=-1\.0: "),
        (lambda: Penalty(abs, interval=True), r"^Penalty\.interval=True: must be a whole number, 1 or above"),
        (lambda: Augmentation(diffaugment, 1.5), r"^Augmentation\.p=1\.5: must be finite, 0 or above, at most 1"),
        (lambda: Augmentation("ada"), r"^Augmentation\.fn='ada': give a function"),
        (lambda: ExponentialEma(-1.0), r"^ExponentialEma\.half_life=-1\.0: must be finite, 0 or above"),
        (lambda: Optimizer(optax.sgd, {"learning_rate": "1"}), r"scalars\['learning_rate'\]='1': give a Schedule"),
        (lambda: init_state(tiny_recipe(), 0), r"^key=0: give a key, such as jax\.random\.key\(0\)"),
    ],
)
def test_values_that_make_no_sense(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_fraction_may_be_a_number():
    assert float(tiny_recipe(top_k_fraction=0.5).top_k_fraction(0)) == 0.5


class Flat(BaseGenerator):
    """A generator that returns rows of pixels."""

    WIDTHS = {8: ()}  # noqa: RUF012

    @nn.compact
    def __call__(self, z, labels, train, keys=None):
        return nn.Dense(192)(z)


class Column(Plain):
    """A discriminator that returns a column of logits."""

    @nn.compact
    def __call__(self, images, labels, train, keys=None):
        return jnp.mean(images, axis=(1, 2))[:, :1]


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ({"generator": Flat(image_size=8)}, r"^Recipe\.generator: .*\[8, 192\]; it must return images \[8, 8, 8, 3\]"),
        ({"discriminator": Column(image_size=8)}, r"^Recipe\.discriminator: .*\[8, 1\]; it must return logits \[8\]"),
    ],
)
def test_a_net_that_returns_something_else(net, words):
    with pytest.raises(ConfigError, match=words):
        init_state(tiny_recipe().replace(**net), KEY)


def one_batch(recipe):
    return jax.tree.map(lambda x: x[0], random_batches(recipe, 1))


def step_in_the_abstract(recipe, of=None):
    """Traces a step of a recipe on the state of another, or on its own."""
    state = jax.eval_shape(init_state, of or recipe, KEY)
    return jax.eval_shape(train_step, recipe, state, one_batch(recipe), KEY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"penalties_d": {"lecam": PENALTIES["lecam"]}},
            r"state\.running=\{\}: must have \{'lecam': \['fake', 'real'\]\}",
        ),
        ({"posthoc_ema": {"0.2": PowerEma(1.0)}}, r"state\.posthoc_ema=\[\]: must have \['0\.2'\]"),
        ({"optimizer_g": optax.adam(1e-3)}, r"state\.g\.opt_state: is not of recipe\.optimizer_g"),
        ({"optimizer_d": optax.sgd(0.1, momentum=0.9)}, r"state\.d\.opt_state: is not of recipe\.optimizer_d"),
    ],
)
def test_a_state_of_another_recipe(change, words):
    with pytest.raises(ConfigError, match=words):
        step_in_the_abstract(tiny_recipe().replace(**change), of=tiny_recipe())


@pytest.mark.parametrize("other", [tiny_recipe(z_dim=16), tiny_recipe(generator=StyledGenerator())])
def test_a_state_of_other_nets(other):
    with pytest.raises(ConfigError, match=r"^state: ScopeParam.* it is the state of other nets; init_state"):
        step_in_the_abstract(tiny_recipe(), of=other)


def test_no_recipe_and_no_state():
    with pytest.raises(ConfigError, match=r"^recipe=.*: give a Recipe, such as recipe_from_config\(config\)$"):
        init_state(tiny_config(), KEY)
    with pytest.raises(ConfigError, match=r"^state=.*: give a TrainState"):
        train_step(tiny_recipe(), {}, one_batch(tiny_recipe()), KEY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda batch: batch["images"], r"^batch\['images'\]=<class '.*'>: give \{"),
        (lambda batch: {"images": batch["images"]}, r"^batch\['labels'\]=<class 'dict'>: give \{"),
        (lambda batch: batch | {"images": batch["images"] / 255}, r"^dtype of batch\['images'\]='float.*must be uint8"),
        (lambda batch: batch | {"labels": batch["labels"] / 2}, r"^dtype of batch\['labels'\]='float.*must be integer"),
    ],
)
def test_a_batch_of_another_kind(change, words):
    recipe = tiny_recipe()
    with pytest.raises(ConfigError, match=words):
        train_step(recipe, jax.eval_shape(init_state, recipe, KEY), change(one_batch(recipe)), KEY)


def test_a_batch_of_numpy_needs_no_jit():
    recipe = tiny_recipe()
    batch = jax.tree.map(np.asarray, one_batch(recipe))
    jax.eval_shape(lambda state: train_step(recipe, state, batch, KEY), jax.eval_shape(init_state, recipe, KEY))


@pytest.mark.parametrize(
    ("running", "returned", "right"),
    [
        ({}, lambda logits: None, r"one value an example, \(8,\), or a scalar, not NoneType"),
        ({}, lambda logits: (logits, {}), "one value an example, .* not tuple"),
        ({}, lambda logits: logits[:, None], r"one value an example, .* not float32 \(8, 1\)"),
        ({"mean": 0.0}, lambda logits: logits, "a pair: values, and the scalars after this step, mean"),
        ({"mean": 0.0}, lambda logits: (logits, {"other": 0.0}), "a pair: "),
        ({"mean": 0.0}, lambda logits: (logits, {"mean": logits}), "a pair: "),
    ],
)
def test_a_penalty_that_returns_something_else(running, returned, right):
    def mine(inputs):
        return returned(inputs.real.logits)

    recipe = tiny_recipe().replace(penalties_d={"mine": Penalty(mine, running=running)})
    with pytest.raises(ConfigError, match=rf"^Penalty\.fn='.*mine': must return {right}"):
        step_in_the_abstract(recipe)


def test_a_side_of_g_that_looks_at_reals_which_it_has_not():
    with pytest.raises(ConfigError, match=r"^Loss\.g: TypeError: .*relativistic=True"):
        step_in_the_abstract(tiny_recipe(loss=Loss(lambda real, fake: fake, lambda real, fake: real - fake)))
    looks = Penalty(lambda inputs: inputs.real.logits, net="g")
    with pytest.raises(ConfigError, match=r"^Penalty\.fn: AttributeError: .*needs_reals=True"):
        step_in_the_abstract(tiny_recipe(penalties_g={"mine": looks}))


def test_a_loss_that_returns_something_else():
    for d in (lambda real, fake: None, lambda real, fake: real > fake, lambda real, fake: 1j * real):
        with pytest.raises(ConfigError, match=r"^Loss\.d='.*<lambda>': must return one value an example"):
            step_in_the_abstract(tiny_recipe(loss=Loss(d, lambda real, fake: fake)))


def test_a_penalty_checks_itself_and_takes_a_number():
    assert float(Penalty(abs, weight=2).weight(0)) == 2.0
    with pytest.raises(ConfigError, match=r"Penalty\.gradients='real': give some of"):
        Penalty(abs, gradients="real")
    with pytest.raises(ConfigError, match=r"Penalty\.net='h': choose d or g"):
        Penalty(abs, net="h")
    with pytest.raises(ConfigError, match=r"Penalty\.fn=None: give a function"):
        Penalty(None)
    with pytest.raises(ConfigError, match=r"Penalty\.running=1: give the scalars"):
        Penalty(abs, running=1)
    with pytest.raises(ConfigError, match=r"Penalty\.running\['mean'\]='0': give a number"):
        Penalty(abs, running={"mean": "0"})
    looks = {"slope": Penalty(lambda inputs: inputs.real.gradient[:, 0, 0, 0])}  # which it does not name
    recipe = tiny_recipe().replace(penalties_d=looks)
    with pytest.raises(ConfigError, match=r"Penalty\.gradients=\(\): name the images"):
        jax.eval_shape(train_step, recipe, jax.eval_shape(init_state, recipe, KEY), one_batch(recipe), KEY)
    fewer = jax.tree.map(lambda x: x[:, 1:], one_batch(recipe))
    with pytest.raises(ConfigError, match=r"shape of batch\['images'\]=\(1, 7, 8, 8, 3\): must be \(1, 8, 8, 8, 3\)"):
        jax.eval_shape(train_step, recipe, jax.eval_shape(init_state, recipe, KEY), fewer, KEY)
    assert tiny_recipe().replace(penalties_g={"r1": Penalty(abs, net="g", gradients=("real",))}).g_needs_reals


class Columnar(DenseDiscriminator):
    """Returns a column of logits."""

    @nn.compact
    def __call__(self, images, labels, train, keys=None):
        return nn.Dense(1)(images.reshape(len(images), -1))


class Headless(DenseDiscriminator):
    """Ends in a layer of its own, which knows nothing of classes."""

    @nn.compact
    def __call__(self, images, labels, train, keys=None):
        return nn.Dense(1)(images.reshape(len(images), -1))[:, 0], {}


class Flat(DenseGenerator):
    """Returns rows of pixels."""

    @nn.compact
    def __call__(self, z, labels, train, keys=None):
        return nn.Dense(192)(z)


@pytest.mark.parametrize(
    ("nets", "conditioning", "message"),
    [
        ((Flat, DenseDiscriminator), "projection", r"the generator returns \[64, 192\]; .* images \[64, 8, 8, 3\]"),
        (
            (DenseGenerator, Columnar),
            "projection",
            r"the discriminator returns \[64, 1\]; it must return logits",
        ),
        ((DenseGenerator, Headless), "ac", "the discriminator returns no classes beside its logits"),
        ((DenseGenerator, Headless), "d2dce", "the discriminator returns no embedding and no proxy beside"),
    ],
)
def test_nets_that_return_something_else_are_refused(nets, conditioning, message, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", nets)
    config = tiny_config()
    config.model.name, config.model.conditional, config.model.conditioning = "tiny", True, conditioning
    with pytest.raises(ConfigError, match=rf"^config\.model\.name='tiny': {message}"):
        recipe_from_config(config)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["g", "d"])
def test_numbers_of_nets_have_bounds(name, side):
    """What is above or below is named, as are numbers that are none, before anything is built of them."""
    net = MODELS[name]["gd".index(side)]
    own = [field for field in dataclasses.fields(net) if field.name not in COMMON_FIELDS - {"embed_dim"}]
    for field in own:
        assert ("bounds" in field.metadata) == (type(field.default) in (int, float) and field.name != "attention_size")
        least, most = field.metadata.get("bounds", (None, None))
        for value in () if least is None else (least - 1, most + 1, math.nan, True):
            with pytest.raises(ValueError, match=rf"^{field.name}={value}: must be a (whole|finite) number"):
                check_net(net(**{field.name: value}), (8,), 8)


def test_a_setting_of_a_net_out_of_bounds():
    config = tiny_config(**{"model.name": "r3gan", "data.image_size": 32})
    config.model.g.expansion = 0
    with pytest.raises(ConfigError, match=r"^config\.model\.g\.expansion=0: must be a whole number, 1 or above$"):
        recipe_from_config(config)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: tiny_recipe().replace(loss=Loss(lambda logits: logits, abs)),
            r"^Loss\.d=.*: give a function of \(logits_real, logits_fake\)",
        ),
        (lambda: tiny_recipe().replace(loss=Loss(None, abs)), r"^Loss\.d=None: give a function of \(logits_real"),
        (
            lambda: tiny_recipe().replace(loss=LOSSES["hinge"]._replace(decision_threshold=math.nan)),
            r"^Loss\.decision_threshold=nan: give a finite number, or None$",
        ),
        (lambda: Optimizer(None), r"^Optimizer\.make=None: give a function such as optax\.adam$"),
        (lambda: Optimizer(optax.sgd, 0.1), r"^Optimizer\.scalars=0\.1: give the scalars by name"),
    ],
)
def test_parts_that_are_none(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("wrong", [lambda keys, x, p: x[:, ::2], lambda keys, x, p: None, lambda keys, x, p: x > p])
def test_an_augmentation_that_returns_no_images(wrong):
    recipe = tiny_recipe().replace(augment=Augmentation(wrong))
    with pytest.raises(ConfigError, match=r"^Augmentation\.fn='.*': must return images \[16, 8, 8, 3\] of floats"):
        step_in_the_abstract(recipe)
