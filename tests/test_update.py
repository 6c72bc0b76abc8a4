"""The update step: device counts, back ends, scanning and vmapping change nothing but rounding."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.core.parallel import Devices, assert_replicated
from jaxgan.gan.objectives import At
from jaxgan.gan.state import create_state, make_nets
from jaxgan.gan.step import make_update, normalise, real_batches_per_step, scan_steps
from jaxgan.settings import default_config

BATCH = 16
KEY = jax.random.key(0)


def tiny(optimizer="adam", model="sngan", **changes):
    """A small net of any architecture at 16 pixels, on random images."""
    config = default_config()
    config.data.image_size, config.data.channels, config.data.num_classes = 16, 3, 10
    config.model.name = model
    config.model.z_dim = 16
    config.model.g_channels, config.model.d_channels = {
        **dict.fromkeys(("sngan", "biggan", "r3gan"), ((16,) * 3, (16,) * 3)),
        "dcgan": ((16, 8, 8), (8, 8, 16)), "mlp": ((16, 16), (8, 8)),
        "stylegan2": ((8, 8), (8, 8)), "r3gan2": ((16,), (16,)),
    }[model]  # fmt: skip
    config.model.g_options, config.model.d_options = {
        "stylegan2": ("w_dim=16", "mapping_layers=1"), "r3gan2": ("blocks=1, group_width=16",) * 2,
    }.get(model, ("", ""))  # fmt: skip
    config.batch_size = BATCH
    for optim in (config.optim_g, config.optim_d):
        optim.name = optimizer
        optim.lr = 1e-2 if optimizer == "sgd" else 2e-4
    config.update_from_flattened_dict(changes)
    return config


def batches(config, steps, seed=0):
    """uint8 images [steps, n, B, H, W, C] and labels."""
    rng = np.random.default_rng(seed)
    shape = (steps, real_batches_per_step(config), config.batch_size)
    size, channels = config.data.image_size, config.data.channels
    return {
        "images": rng.integers(0, 256, (*shape, size, size, channels), dtype=np.uint8),
        "labels": rng.integers(0, 10, shape, dtype=np.int32),
    }


def split(batch, count):
    """[K, n, B, ...] to [devices, K, n, b, ...]."""

    def one(x):
        steps, n, size, *rest = x.shape
        return np.moveaxis(x.reshape(steps, n, count, size // count, *rest), 2, 0)

    return jax.tree.map(one, batch)


def run(config, steps=5, count=1, backend="pmap", per_call=1):
    """State and list of metrics after `steps` updates on `count` devices."""
    devices = Devices(backend, jax.devices()[:count])
    nets = make_nets(config)
    state = devices.replicate(jax.jit(lambda k: create_state(nets, k))(KEY))
    step = devices.parallelize(scan_steps(make_update(config, nets)))
    data, metrics = batches(config, steps), []
    for i in range(0, steps, per_call):
        batch = jax.tree.map(lambda x, i=i: x[i : i + per_call], data)
        state, values = step(state, devices.put_batch(split(batch, count)), KEY)
        metrics.append({k: float(v) for k, v in values.items()})
    assert_replicated((state, values))
    return jax.device_get(state), metrics


def distance(a, b):
    """Relative L2 distance of two trees."""
    return float(optax.tree.norm(jax.tree.map(jnp.subtract, a, b)) / optax.tree.norm(a))


def params(state):
    return {"g": state.g.params, "d": state.d.params, "ema": state.ema["params"]}


def assert_same(a, b, tolerance=1e-5):
    assert distance(params(a[0]), params(b[0])) <= tolerance
    for one, two in zip(a[1], b[1], strict=True):
        for name in one:
            np.testing.assert_allclose(one[name], two[name], rtol=2e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "tolerance"), [("sgd", 1e-5), ("adam", 1e-3)])
def test_one_to_eight_devices_are_the_same_run(optimizer, tolerance):
    config = tiny(optimizer, **{"optim_g.lr": 2e-4, "optim_d.lr": 2e-4})  # the recipe's
    reference, metrics = run(config, steps=20)
    for count in (2, 8):
        state, others = run(config, steps=20, count=count)
        assert distance(params(reference), params(state)) <= tolerance
        for a, b in zip(metrics[:5], others, strict=False):
            np.testing.assert_allclose([a["loss/d"], a["loss/g"]], [b["loss/d"], b["loss/g"]], rtol=1e-4, atol=1e-4)


VARIANTS = {
    "relativistic, both gradient penalties, two D steps": dict(
        loss="rpgan",
        d_steps=2,
        **{"penalty.r1.weight": 0.1, "penalty.r2.weight": 0.1, "penalty.r2.interval": 2},
    ),
    "conditional WGAN-GP": dict(loss="wgan", **{"penalty.gp.weight": 10.0, "model.conditional": True}),
    "dropout in D": dict(model="mlp", loss="minimax"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_two_devices_agree_with_one(name):
    config = tiny("sgd", **VARIANTS[name])
    assert_same(run(config, steps=2), run(config, steps=2, count=2, backend="shard_map"))


def test_two_devices_agree_with_one_with_batch_norm_in_d():
    """The kinks of leaky ReLU behind batch norm turn a rounding into a per mille of G's gradient: one step only."""
    config = tiny("sgd", model="dcgan", loss="ns")
    (one, metrics), (two, others) = run(config, steps=1), run(config, steps=1, count=2, backend="shard_map")
    assert distance(params(one), params(two)) <= 3e-4  # a forgotten average: 1e-3 and more
    for name, value in metrics[0].items():
        np.testing.assert_allclose(others[0][name], value, rtol=1e-2, atol=1e-5, err_msg=name)


def test_both_back_ends_agree():
    config = tiny("sgd", model="mlp")
    assert_same(run(config, steps=2, count=2), run(config, steps=2, count=2, backend="shard_map"))


def test_scanned_steps_equal_single_ones():
    config = tiny("sgd", model="mlp", **{"penalty.r1.weight": 0.1, "penalty.r1.interval": 4})
    single, metrics = run(config, steps=4)
    scanned, means = run(config, steps=4, per_call=4)
    assert distance(params(single), params(scanned)) <= 1e-5
    assert int(scanned.step) == 4
    for name, value in means[0].items():
        expected = np.nanmean([m[name] for m in metrics])  # a lazy penalty: of the one step that applied it
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-5, err_msg=name)


def test_same_seed_same_bits():
    config = tiny(model="mlp")
    (a, metrics_a), (b, metrics_b) = run(config, steps=3), run(config, steps=3)
    assert metrics_a == metrics_b
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_vmap_over_a_population_equals_separate_runs():
    config = tiny("sgd", model="mlp")
    nets, devices = make_nets(config), Devices("pmap", jax.devices()[:1])
    update, keys = scan_steps(make_update(config, nets)), jax.random.split(KEY, 2)
    data = split(batches(config, 2), 1)
    population = jax.vmap(lambda k: create_state(nets, k))(keys)
    population, metrics = devices.parallelize(jax.vmap(update, in_axes=(0, None, 0)))(population, data, keys)
    for i in range(2):
        alone, values = devices.parallelize(update)(create_state(nets, keys[i]), data, keys[i])
        member = jax.tree.map(lambda x, i=i: x[i], population)
        assert distance(params(alone), params(member)) <= 1e-5
        np.testing.assert_allclose(values["loss/d"], metrics["loss/d"][i], rtol=1e-4)


def manual_step(config, nets, state, batch):
    """Hinge SNGAN without EMA, written out once more for one device and sgd: D's step, then G's."""
    from jaxgan.core import rng

    def z(stream):
        keys = rng.example_keys(rng.stream_key(KEY, stream), jnp.arange(BATCH))
        return rng.normal(keys, (config.model.z_dim,))

    # `axis_name` is unbound outside a mapped step, so batch norm must not look for it.
    net_g, net_d = nets.g.clone(axis_name=None), nets.d.clone(axis_name=None)
    real = normalise(jnp.asarray(batch["images"][0, 0]))

    def g_apply(p, stream):
        variables = {"params": p, **state.g.extra}
        return net_g.apply(variables, z(stream), None, True, mutable=["batch_stats"])

    def d_apply(p, extra, x):
        return net_d.apply({"params": p, **extra}, x, None, True, mutable=["batch_stats"])

    fake, _ = g_apply(state.g.params, rng.Stream.Z_D)

    def loss_d(p):
        logits, extra = d_apply(p, state.d.extra, jnp.concatenate([real, fake]))
        r, f = logits[:BATCH], logits[BATCH:]
        return jnp.mean(jnp.maximum(0, 1 - r) + jnp.maximum(0, 1 + f)), extra

    (value_d, extra), grads = jax.value_and_grad(loss_d, has_aux=True)(state.d.params)
    params_d = jax.tree.map(lambda p, g: p - config.optim_d.lr * g, state.d.params, grads)
    value_g, grads = jax.value_and_grad(
        lambda p: -jnp.mean(d_apply(params_d, extra, g_apply(p, rng.Stream.Z_G)[0])[0])
    )(state.g.params)
    return (
        params_d,
        jax.tree.map(lambda p, g: p - config.optim_g.lr * g, state.g.params, grads),
        value_d,
        value_g,
    )


def test_one_step_against_the_algorithm_written_out():
    config = tiny("sgd", **{"data.flip": False})
    nets = make_nets(config)
    state = jax.jit(lambda k: create_state(nets, k))(KEY)
    by_hand = jax.jit(lambda state, batch: manual_step(config, nets, state, batch))
    params_d, params_g, value_d, value_g = by_hand(state, batches(config, 1))
    after, metrics = run(config, steps=1)
    assert distance(params_d, after.d.params) <= 1e-6
    assert distance(params_g, after.g.params) <= 1e-6
    np.testing.assert_allclose([metrics[0]["loss/d"], metrics[0]["loss/g"]], [value_d, value_g], rtol=1e-5)


def test_flip_shows_each_real_or_its_mirror():
    """A critic that weighs the columns: its mean over a batch is one of the sums over images and mirrors."""
    config = tiny("sgd", model="mlp")
    reals = inspect.getclosurevars(make_update(config, make_nets(config))).nonlocals["reals"]
    batch = jax.tree.map(lambda x: jnp.asarray(x[0]), batches(config, 1))
    at = At(KEY, 0, 0.0, jnp.arange(BATCH), BATCH)
    seen = np.asarray(reals(batch, 0, at)[0])
    plain = np.asarray(normalise(batch["images"][0]))
    kept = [(a == b).all() for a, b in zip(seen, plain, strict=True)]
    mirrored = [(a == b[:, ::-1]).all() for a, b in zip(seen, plain, strict=True)]
    np.testing.assert_array_equal(np.logical_xor(kept, mirrored), True)
    assert 2 < sum(mirrored) < BATCH - 2
    # The draw belongs to the example: the second half of the batch, on a device of its own, sees the same.
    half = jax.tree.map(lambda x: x[:, BATCH // 2 :], batch)
    second = at._replace(index=at.index[BATCH // 2 :])
    np.testing.assert_array_equal(reals(half, 0, second)[0], seen[BATCH // 2 :])


def test_accuracy_knows_where_each_loss_puts_its_border():
    """lsgan wants 1 and 0, so the border is between them; wgan and rpgan compare within pairs."""
    from jaxgan.gan.losses import LOSSES

    assert {name: loss.border for name, loss in LOSSES.items()} == {
        "minimax": 0.0, "ns": 0.0, "hinge": 0.0, "lsgan": 0.5, "wgan": None, "rpgan": None,
    }  # fmt: skip
    for name in ("wgan", "rpgan"):
        metrics = run(tiny("sgd", model="mlp", loss=name), steps=1)[1][0]
        assert metrics["acc/real"] == metrics["acc/fake"]


def test_norms_are_of_the_step_that_was_taken():
    config = tiny("sgd", model="mlp")
    (state, metrics), before = run(config, steps=1), create_state(make_nets(config), KEY)
    for name, old, new in (("g", before.g.params, state.g.params), ("d", before.d.params, state.d.params)):
        step = optax.tree.norm(jax.tree.map(jnp.subtract, new, old))
        np.testing.assert_allclose(metrics[0][f"norm/update_{name}"], step, rtol=1e-3)
        np.testing.assert_allclose(metrics[0][f"norm/grad_{name}"] * 1e-2, step, rtol=1e-3)
        np.testing.assert_allclose(metrics[0][f"norm/param_{name}"], optax.tree.norm(new), rtol=1e-5)
