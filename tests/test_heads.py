"""How discriminators end: the direction of SAN, what they say of classes, and what D and G minimise by it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.gan.losses import LOSSES, class_cross_entropy
from jaxgan.gan.step import real_batches_per_step
from jaxgan.models import MODELS
from jaxgan.models.layers import ANSWERS, Critic, unit
from jaxgan.settings import options
from tests.test_configs import TINY
from tests.test_models import build, initialise
from tests.test_objectives import by_hand
from tests.test_update import assert_same, distance, run, tiny

LABELS = jnp.array([0, 2, 1, 2])


class Linear(Critic):
    """The smallest critic: its images are its features."""

    @nn.compact
    def __call__(self, images, labels, train=True, keys=None):
        return self.head(images, labels, nn.initializers.normal(1.0))


def linear(**fields):
    critic, h = Linear(num_classes=3, **fields), jax.random.normal(jax.random.key(1), (4, 5))
    variables = critic.init(jax.random.key(0), h, LABELS)
    assert set(variables) == {"params"}
    return critic, variables["params"], h


def says(critic, params, h):
    logits, extra = critic.apply({"params": params}, h, LABELS, mutable=[ANSWERS])
    return logits, extra[ANSWERS]["answers"]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_direction_of_san_has_norm_1_and_is_that_of_the_projected_class(scale):
    critic, params, h = linear(san=True)
    w = params["logit"]["kernel"][:, 0] + params["classes"]["embedding"][LABELS]
    params = jax.tree.map(lambda x: scale * x, params)
    omega = jax.grad(lambda h: jnp.sum(critic.apply({"params": params}, h, LABELS)))(h)
    np.testing.assert_allclose(jnp.linalg.norm(omega, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(omega, w / jnp.linalg.norm(w, axis=-1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_projection_in_closed_form():
    critic, params, h = linear()
    params["logit"]["bias"] += 2.0
    w = params["logit"]["kernel"][:, 0] + params["classes"]["embedding"][LABELS]
    logits, answers = says(critic, params, h)
    np.testing.assert_allclose(logits, jnp.sum(w * h, axis=-1) + 2.0, rtol=1e-5)
    np.testing.assert_array_equal(answers["features"], h)


def test_gradients_of_san_in_closed_form():
    """Of <omega, h> by h: omega. Of the direction term by w: h without its part along omega, over |w|."""
    critic, params, h = linear(san=True, conditioning="ac")  # no projection: one direction
    w = params["logit"]["kernel"][:, 0]
    omega = w / jnp.linalg.norm(w)
    of_logits = jax.grad(lambda p, h: jnp.sum(says(critic, p, h)[0]), argnums=(0, 1))(params, h)
    of_direction = jax.grad(lambda p, h: jnp.sum(says(critic, p, h)[1]["direction"]), argnums=(0, 1))(params, h)
    assert not of_logits[0]["logit"]["kernel"].any()
    assert of_logits[0]["logit"]["bias"] == len(h)
    np.testing.assert_allclose(of_logits[1], jnp.broadcast_to(omega, h.shape), rtol=1e-5)
    assert not of_direction[1].any()
    total = h.sum(axis=0)
    expected = (total - omega * (omega @ total)) / jnp.linalg.norm(w)
    np.testing.assert_allclose(of_direction[0]["logit"]["kernel"][:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["ns", "hinge"])
def test_objective_of_d_with_san_written_out(loss):
    objectives, state, reals, labels, at = by_hand(
        **{"model.san": True, "model.conditional": True, "model.d_channels": (8, 8)}
    )
    objectives.loss = LOSSES[loss]
    labels = at.index % 10
    fakes, _ = objectives.generate(state.g.params, state.g.extra, at.keys(2), at.keys(5, 2), labels)
    view_real, view_fake = objectives.views(at, labels, 5, 11)

    def expected(params):
        real, fake, _ = objectives.criticise_both(params, {}, (reals, view_real), (fakes, view_fake), 0.0)
        omega = unit(params["logit"]["kernel"][:, 0] + params["classes"]["embedding"][labels])
        fixed = jax.lax.stop_gradient
        logits = (jnp.sum(fixed(omega) * x["features"], -1) + params["logit"]["bias"] for x in (real, fake))
        direction = jnp.sum(omega * fixed(fake["features"] - real["features"]), -1)
        return jnp.mean(LOSSES[loss].d(*logits)) + jnp.mean(direction)

    def actual(params):
        return objectives.d(params, state.d, state.g, {}, reals, labels, at)[0]

    one, two = (jax.jit(jax.value_and_grad(f))(state.d.params) for f in (expected, actual))
    np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
    assert distance(one[1], two[1]) <= 1e-5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_classes", [0, 10])
def test_san_has_the_parameters_of_the_plain_net_and_one_answer_more(name, num_classes):
    size, _, channels, _, own = TINY[name]
    fields = dict(image_size=size, num_classes=num_classes, channels=channels, **options(own))
    plain, san = (MODELS[name].Discriminator(san=san, **fields) for san in (False, True))
    images, keys = jnp.zeros((1, size, size, 3)), jax.random.split(jax.random.key(0), 1)

    def shapes(net):
        def parts(key):
            variables = net.init(key, images, LABELS[:1], False, keys)
            extra = net.apply(variables, images, LABELS[:1], False, keys, mutable=[ANSWERS])[1]
            return variables["params"], extra[ANSWERS]["answers"]

        return jax.tree.map(jnp.shape, jax.eval_shape(parts, jax.random.key(0)))

    (params, answers), (params_san, answers_san) = shapes(plain), shapes(san)
    assert params == params_san
    assert list(answers) == ["features"]
    assert answers_san == answers | {"direction": (1,)}


def test_parameter_counts_of_conditionings():
    """Beside the 1,053,825 of SNGAN's D: K (F + 1) of a classifier, K F of the projection, (F + K) E of embeddings."""
    for conditioning, more in {"ac": 1290, "multi_hinge": 1290 + 1280, "d2dce": (128 + 10) * 512}.items():
        g, d = build("sngan", 32, 10, tiny=False)
        d = d.clone(conditioning=conditioning)
        variables = jax.eval_shape(lambda g=g, d=d: initialise(g, d, 32)[1])
        assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 1_053_825 + more


def test_answers_of_conditionings():
    critic, params, h = linear(conditioning="multi_hinge")
    _, answers = says(critic, params, h)
    np.testing.assert_allclose(answers["classes"], h @ params["classifier"]["kernel"], rtol=1e-5, atol=1e-5)
    critic, params, h = linear(conditioning="d2dce", embed_dim=7)
    logits, answers = says(critic, params, h)
    np.testing.assert_allclose(logits, h @ params["logit"]["kernel"][:, 0], rtol=1e-4, atol=1e-5)  # D hears of no class
    assert answers["embedding"].shape == answers["proxy"].shape == (4, 7)
    for name in ("embedding", "proxy"):
        np.testing.assert_allclose(jnp.linalg.norm(answers[name], axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(answers["proxy"][1], answers["proxy"][3])
    assert not jnp.allclose(answers["proxy"][0], answers["proxy"][1])


@pytest.mark.parametrize("fakes", [False, True])
def test_auxiliary_classifier_in_both_objectives(fakes):
    change = {"model.conditional": True, "model.conditioning": "ac", "aux.fakes": fakes}
    weights = {"aux.weight_d": 0.7, "aux.weight_g": 0.3}
    objectives, state, reals, _, at = by_hand(**change, **weights)
    labels = at.index % 10
    value, (_, metrics) = objectives.d(state.d.params, state.d, state.g, {}, reals, labels, at)
    np.testing.assert_allclose(value, metrics["loss/d"] + 0.7 * metrics["classes/d"], rtol=1e-5)
    views = objectives.views(at, labels, 5, 11)
    images, _ = objectives.generate(state.g.params, state.g.extra, at.keys(2), at.keys(5, 2), labels)
    expected = [
        jnp.mean(class_cross_entropy(objectives.criticise(state.d.params, {}, x, view, 0.0)[0]["classes"], labels))
        for x, view in zip((reals, images), views, strict=True)
    ]
    np.testing.assert_allclose(metrics["classes/d"], expected[0] + fakes * expected[1], rtol=1e-4)
    value, (_, metrics, _) = objectives.g(state.g.params, state.g, state.d, {}, reals, labels, at)
    np.testing.assert_allclose(value, metrics["loss/g"] + 0.3 * metrics["classes/g"], rtol=1e-5)


def test_feature_matching_wants_reals_in_the_step_of_g_only_if_it_is_on():
    config = tiny(loss="ns")
    assert real_batches_per_step(config) == 1
    config.penalty.fm.weight = 1.0
    assert real_batches_per_step(config) == 2
    config.loss = "rpgan"
    assert real_batches_per_step(config) == 2


def test_feature_matching_in_the_objective_of_g():
    objectives, state, reals, labels, at = by_hand(**{"penalty.fm.weight": 0.5})

    @jax.jit
    def both(params):
        one_device = jax.vmap(
            lambda _: objectives.g(params, state.g, state.d, {}, reals, labels, at)[:2], axis_name="batch"
        )
        value, (_, metrics, _) = jax.tree.map(lambda x: x[0], one_device(jnp.zeros(1)))
        fakes, _ = objectives.generate(params, state.g.extra, at.keys(3), at.keys(6, 2), labels)
        views = objectives.views(at, labels, 6, 12)
        real, fake = (
            objectives.criticise(state.d.params, {}, images, view, 0.0)[0]["features"].mean(0)
            for images, view in zip((reals, fakes), views, strict=True)
        )
        return value, metrics, jnp.sum(jnp.square(real - fake))

    value, metrics, expected = both(state.g.params)
    np.testing.assert_allclose(metrics["penalty/fm"], expected, rtol=1e-4)
    np.testing.assert_allclose(value, metrics["loss/g"] + 0.5 * expected, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"model.conditioning": "ac", "aux.fakes": True, "model.san": True},
        {"model.conditioning": "multi_hinge"},
        {"model.conditioning": "d2dce", "aux.embed_dim": 8, "penalty.fm.weight": 0.1, "penalty.fm.interval": 2},
    ],
    ids=lambda change: change["model.conditioning"],
)
def test_two_devices_agree_with_one(change):
    config = tiny("sgd", **{"model.conditional": True}, **change)
    one, two = run(config, steps=2), run(config, steps=2, count=2, backend="shard_map")
    assert_same(one, two)
    assert {"classes/d", "classes/g"} <= set(one[1][0])
    assert np.isfinite([one[1][1][name] for name in one[1][1]]).all()
