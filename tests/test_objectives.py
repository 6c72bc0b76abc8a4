"""What is minimised: augmentation, penalties and what follows the run, through whole steps and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.core.checkpoint import Checkpoints
from jaxgan.gan import ema
from jaxgan.gan.augment import AUGMENTS
from jaxgan.gan.objectives import At, Objectives
from jaxgan.gan.state import AdaptiveState, TrainState, create_state, make_nets
from jaxgan.models import r3gan2
from tests.test_update import BATCH, KEY, assert_same, distance, params, run, tiny

SMALL = {"data.image_size": 8}


def test_augmentation_of_strength_0_is_none():
    """Off, and on with a p that is 0 in the first step."""
    plain, metrics = run(tiny("sgd", model="mlp", **SMALL), steps=1)
    for schedule in ("constant", "linear to 1"):
        change = {"augment.name": "diffaugment", "augment.p": 0.0, "augment.p_schedule": schedule}
        state, others = run(tiny("sgd", model="mlp", **SMALL, **change), steps=1)
        assert distance(params(plain), params(state)) <= 1e-7
        assert {name: others[0][name] for name in metrics[0]} == pytest.approx(metrics[0], rel=1e-5)


def test_two_devices_agree_with_one_with_all_that_looks_at_d():
    penalties = {f"penalty.{name}.weight": 0.3 for name in ("bcr", "dragan", "lecam")}
    change = {
        "augment.name": "diffaugment",
        "augment.p": 0.7,
        "augment.target": 0.3,
        "augment.speed_kimg": 0.5,
        "top_k": 0.5,
    }
    config = tiny("sgd", model="mlp", loss="ns", **SMALL, **penalties, **change)
    one, two = run(config, steps=2), run(config, steps=2, count=2)
    assert_same(one, two)
    for name, value in one[0].aux.items():
        np.testing.assert_allclose(two[0].aux[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_paths_on_two_devices_as_on_one():
    config = tiny("sgd", model="stylegan2", **SMALL)
    config.loss, config.model.conditional = "ns", True
    config.penalty.path.update(weight=2.0, interval=2)
    one, two = run(config, steps=2), run(config, steps=2, count=2)
    assert_same(one, two)
    np.testing.assert_allclose(one[0].aux["path_length"], two[0].aux["path_length"], rtol=1e-4)
    first, second = (metrics["penalty/path"] for metrics in one[1])
    assert np.isnan(first)
    # The first batch of lengths l moves the mean from 0 to mean(l) / 100, so the penalty is about l^2.
    length = 100 * one[0].aux["path_length"]
    assert 0.9 * length**2 < second < 2 * length**2


def test_p_adapts_and_is_in_the_checkpoint(tmp_path):
    config = tiny("adam", model="mlp", loss="ns", **SMALL)
    config.optim_d.lr = 0.02  # learns to tell these reals within a few steps
    config.augment.update(name="diffaugment", p=0.1, target=0.6, speed_kimg=0.2)
    state, metrics = run(config, steps=8)
    p, moves = 0.1, []
    for line in metrics:
        np.testing.assert_allclose(line["ada/p"], p, rtol=1e-5)
        moves.append(np.sign(line["ada/sign"] - 0.6))
        p = np.clip(p + moves[-1] * BATCH / 200, 0, 1)
    assert {-1, 1} <= set(moves)  # up and down
    np.testing.assert_allclose(state.aux["ada_p"], p, rtol=1e-5)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(8, state, {})
        checkpoints.wait()
        restored = checkpoints.restore(jax.eval_shape(lambda: create_state(make_nets(config), KEY)))
    assert isinstance(restored, AdaptiveState)
    assert restored.aux["ada_p"].tobytes() == state.aux["ada_p"].tobytes()


def test_runs_without_adaptive_scalars_have_the_state_that_they_always_had():
    state = jax.eval_shape(lambda: create_state(make_nets(tiny(model="mlp")), KEY))
    assert type(state) is TrainState
    assert list(vars(state)) == ["step", "g", "d", "ema"]


def test_lecam_follows_the_logits_and_starts_when_told():
    config = tiny("sgd", model="mlp", **SMALL)
    config.penalty.lecam.update(weight=1.0, start_kimg=0.02)  # after the second step of 16 images
    state, metrics = run(config, steps=4)
    assert [line["penalty/lecam"] > 0 for line in metrics] == [False, False, True, True]
    for of in ("real", "fake"):
        logits = [line[f"logits/{of}"] for line in metrics]
        expected = 0.99 * (0.99 * logits[1] + 0.01 * logits[2]) + 0.01 * logits[3]
        np.testing.assert_allclose(state.aux[f"lecam_{of}"], expected, rtol=1e-4)


def test_weights_of_r3gan2_are_normalised_after_a_step():
    config = tiny("adam", model="r3gan2", **SMALL)
    config.loss = "rpgan"
    state, _ = run(config, steps=1)
    for net in (state.g, state.d):
        again = r3gan2.normalise_weights(net.params)
        assert distance(net.params, again) < 2e-4  # of each weight 1e-4, by its definition
    before = create_state(make_nets(config), KEY).d.params
    assert distance(before, r3gan2.normalise_weights(before)) > 0.02


def test_power_function_averages():
    config = tiny("sgd", model="mlp", **SMALL, **{"ema.sigma_rel": 0.1, "ema.posthoc": (0.2,)})
    (one, _), (two, _) = run(config, steps=1), run(config, steps=2)
    for sigma_rel, first, second in ((0.1, one.ema, two.ema), (0.2, one.posthoc["0.2"], two.posthoc["0.2"])):
        assert distance(one.g.params, first["params"]) <= 1e-7  # nothing came before
        weight = ema.power_decay(2 * BATCH, BATCH, sigma_rel)
        expected = jax.tree.map(lambda a, b, w=weight: w * a + (1 - w) * b, one.g.params, two.g.params)
        assert distance(expected, second["params"]) <= 1e-6


def test_half_life_by_schedule():
    config = tiny("sgd", model="mlp", **SMALL)
    config.ema.update(half_life_kimg=0.0, half_life_kimg_schedule="linear to 0.032 in 0.032 kimg", rampup=0.0)
    (one, _), (two, _) = run(config, steps=1), run(config, steps=2)
    weight = 0.5 ** (16 / 32)  # after the second step the half-life is 32 images
    expected = jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, one.ema["params"], two.g.params)
    assert distance(expected, two.ema["params"]) <= 1e-6


def by_hand(**changes):
    """Objectives on one device, the states of the nets, and a step with its reals."""
    config = tiny("sgd", model="mlp", loss="ns", **SMALL, **changes)
    nets = make_nets(config)
    nets = nets._replace(g=nets.g.clone(axis_name=None), d=nets.d.clone(axis_name=None))
    state = create_state(nets, KEY)
    reals = jax.random.uniform(jax.random.key(1), (BATCH, 8, 8, 3), minval=-1.0)
    at = At(KEY, jnp.int32(3), jnp.float32(48.0), jnp.arange(BATCH), BATCH)
    return Objectives(config, nets), state, reals, jnp.zeros(BATCH, jnp.int32), at


@pytest.fixture
def halved(monkeypatch):
    """An augmentation by hand: images times p."""
    monkeypatch.setitem(AUGMENTS, "times p", lambda keys, images, p: p * images)
    return {"augment.name": "times p", "augment.p": 0.5}


def test_penalties_are_of_gradients_through_the_augmentation(halved):
    objectives, state, reals, labels, at = by_hand(**halved, **{"penalty.r1.weight": 1.0, "penalty.r2.weight": 1.0})
    value, (_, metrics) = objectives.d(state.d.params, state.d, state.g, {}, reals, labels, at)
    view_real, view_fake = objectives.views(at, labels, 5, 11)
    fakes, _ = objectives.generate(state.g.params, state.g.extra, at.keys(2), at.keys(5, 2), labels)
    for name, images, view in (("r1", reals, view_real), ("r2", fakes, view_fake)):

        def critic(images, view=view):
            variables = {"params": state.d.params}
            return objectives.nets.d.apply(variables, images, labels, train=True, keys=view.noise)

        grads = jax.grad(lambda x, critic=critic: jnp.sum(critic(x)))(0.5 * images)
        expected = np.mean(np.sum(np.square(0.5 * grads), (1, 2, 3)))
        np.testing.assert_allclose(metrics[f"penalty/{name}"], expected, rtol=1e-4)
        np.testing.assert_allclose(metrics[f"logits/{'real' if name == 'r1' else 'fake'}"], critic(0.5 * images).mean(),
                                   rtol=1e-4, atol=1e-6)  # fmt: skip
    total = sum(metrics[name] for name in ("loss/d", "penalty/r1", "penalty/r2"))
    np.testing.assert_allclose(value, total, rtol=1e-5)


def test_g_learns_through_the_augmentation(halved):
    objectives, state, reals, labels, at = by_hand(**halved)
    value, _ = objectives.g(state.g.params, state.g, state.d, {}, reals, labels, at)
    fakes, _ = objectives.generate(state.g.params, state.g.extra, at.keys(3), at.keys(6, 2), labels)
    logits = objectives.nets.d.apply({"params": state.d.params}, 0.5 * fakes, labels, train=True, keys=at.keys(6, 1))
    np.testing.assert_allclose(value, np.mean(np.logaddexp(0, -logits)), rtol=1e-5)


@pytest.mark.parametrize("paired", [True, False])
def test_pairs_share_draws_if_asked(halved, paired):
    objectives, _, _, labels, at = by_hand(**halved, **{"augment.paired": paired})
    real, fake = objectives.views(at, labels, 5, 11)
    assert bool(jnp.all(real.augment == fake.augment)) == paired
    assert not jnp.any(real.noise == fake.noise)


def test_a_critic_that_sees_no_difference_has_no_consistency_penalty():
    """Constant images are what they were when mirrored, and shifted but for their border: zero images entirely."""
    objectives, state, reals, labels, at = by_hand(**{"penalty.cr.weight": 1.0, "model.d_channels": (8, 8)})
    d = state.d.params
    grey, seen = (objectives.d(d, state.d, state.g, {}, x, labels, at)[1][1] for x in (0 * reals, reals))
    assert grey["penalty/cr"] < 1e-12 < 1e-6 < seen["penalty/cr"]


def test_top_k_by_hand():
    """Of the gradient of G only the half of the fakes with the highest logits is left, twice as strong."""
    objectives, state, reals, labels, at = by_hand(top_k=0.5)

    def everyone(params):
        step = jax.vmap(
            lambda _, p: objectives.g(p, state.g, state.d, {}, reals, labels, at)[0], (0, None), axis_name="batch"
        )
        return step(jnp.zeros(1), params)[0]

    def best(params):
        fakes, _ = objectives.generate(params, state.g.extra, at.keys(3), at.keys(6, 2), labels)
        logits = objectives.nets.d.apply({"params": state.d.params}, fakes, labels, train=True, keys=at.keys(6, 1))
        chosen = jax.lax.stop_gradient(jnp.argsort(logits)[BATCH // 2 :])
        return jnp.mean(jax.nn.softplus(-logits[chosen]))

    (value, grads), (expected, grads_by_hand) = (jax.value_and_grad(f)(state.g.params) for f in (everyone, best))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert optax.tree.norm(grads) > 0
    assert distance(grads_by_hand, grads) <= 1e-5
