"""BigGAN and SAGAN: StudioGAN's own numbers, attention, spectral norm, split latents."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.models import MODELS, biggan
from jaxgan.models.attention import SelfAttention, attention_block

KEY = jax.random.key(0)
WIDTHS = (16, 8, 8)  # of the tiny nets, at 16 pixels
Z = 12  # three chunks of 4


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def build(name, g_channels, d_channels, **fields):
    generator, discriminator = MODELS[name]
    return generator(channels=g_channels, **fields), discriminator(channels=d_channels, **fields)


def initialise(g, d, z_dim):
    label = jnp.zeros(1, jnp.int32)
    images = jnp.zeros((1, d.image_size, d.image_size, d.image_channels))
    return g.init(KEY, jnp.zeros((1, z_dim)), label, False), d.init(KEY, images, label, False)


def draws(shapes, random, scale=0.3):
    """Returns variables that depend on a seed and their names only."""

    def value(path, leaf):
        name = path[-1].key.split("/")[-1]
        constants = {"mean": 0.0, "var": 1.0, "sigma": 0.7}  # the norms' sigma is only written
        if name in constants:
            return np.full(leaf.shape, constants[name], np.float32)
        numbers = random.randn(*leaf.shape).astype(np.float32)
        return numbers if name == "u" else scale * numbers + (name == "scale")

    return jax.tree_util.tree_map_with_path(value, shapes)


@functools.cache
def tiny(name):
    """Returns generator, discriminator and variables with no zeros."""
    g, d = build(name, WIDTHS, WIDTHS, image_size=16, num_classes=3)
    shapes = jax.eval_shape(lambda: initialise(g, d, Z))
    return g, d, *(draws(dict(s), np.random.RandomState(0)) for s in shapes)


def official_case(name):
    """Returns small nets of `name` at 32 pixels with weights that depend on a seed and their names only, and inputs."""
    fields = dict(image_size=32, num_classes=5)
    own = {"shared_dim": 6} if name == "biggan" else {}
    g = MODELS[name][0](channels=(16,) * 4, **fields, **own)
    d = MODELS[name][1](channels=(8,) * 4, **fields)
    random = np.random.RandomState(1)
    shapes = jax.eval_shape(lambda: initialise(g, d, 8))
    g_variables, d_variables = (draws(dict(s), random) for s in shapes)
    # PyTorch iterates over a table from the side of the classes: both agree where they start at the fixed point.
    table = d_variables["params"]["classes"]["embedding"]
    d_variables["batch_stats"]["sn_classes"]["classes/embedding/u"] = np.linalg.svd(table)[2][:1]
    z, images = random.randn(4, 8).astype(np.float32), random.uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    labels = np.array([0, 3, 1, 4])
    return dict(g=g, d=d, g_variables=g_variables, d_variables=d_variables, z=z, images=images, labels=labels)


# What PyTorch-StudioGAN's Generator and Discriminator gave at these weights in float64, in training mode: the red value
# in row 16, column 16 of each fake, mean squares of fakes, logits of fakes and of real images, and the norm of the
# gradient of D's hinge loss on the real images.
OFFICIAL = {
    "biggan": (
        (-0.1620243, -0.4010651, -0.2019652, 0.2346791),
        (0.3754977, 0.3421729, 0.2675017, 0.3197208),
        (-37.754918, -6.4237443, -5.3243953, -42.2956906),
        (-68.6173441, -20.7390452, -14.0424246, -49.3733233),
        298.479099,
    ),
    "sagan": (
        (-0.0372672, 0.1062046, -0.1293417, -0.1251072),
        (0.252379, 0.215515, 0.2341407, 0.3479726),
        (-64.2493298, -54.5867737, -14.0578277, -90.146491),
        (-65.8522124, -59.3185673, -14.3851733, -94.9510292),
        222.8626462,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["biggan", "sagan"])
def test_the_numbers_are_studiogans(name):
    case = official_case(name)
    images, labels = case["images"], case["labels"]

    def apply(module, variables, x, labels):
        return module.apply(variables, x, labels, True, mutable=["batch_stats"])[0]

    def loss_d(params, fakes):
        both, twice = jnp.concatenate([fakes, images]), jnp.tile(labels, 2)
        logits, _ = apply(case["d"], {**case["d_variables"], "params": params}, both, twice)
        return jnp.mean(jax.nn.relu(1.0 - logits[4:])), jnp.split(logits, 2)

    @jax.jit
    def run(g_variables, d_variables):
        fakes = apply(case["g"], g_variables, case["z"], labels)
        grads, (logits_fake, logits_real) = jax.grad(loss_d, has_aux=True)(d_variables["params"], fakes)
        squares = jnp.mean(jnp.square(fakes), axis=(1, 2, 3))
        return fakes[:, 16, 16, 0], squares, logits_fake, logits_real, optax.tree.norm(grads)

    found = run(case["g_variables"], case["d_variables"])
    for ours, theirs in zip(found, OFFICIAL[name], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_attention_by_loops():
    x = normal(2, 4, 6, 16)
    layer = SelfAttention()
    start, variables = jax.jit(layer.init_with_output)(KEY, x)
    np.testing.assert_array_equal(start, x)  # sigma starts at 0
    params = jax.tree.map(np.asarray, variables["params"])
    params["sigma"] = np.float32(0.8)

    query, key, value, out = (params[n]["kernel"][0, 0] for n in ("query", "key", "value", "out"))
    assert (query.shape, key.shape, value.shape, out.shape) == ((16, 2), (16, 2), (16, 8), (8, 16))
    expected = x.copy()
    for b in range(2):
        blocks = [x[b, i : i + 2, j : j + 2].reshape(4, 16) for i in (0, 2) for j in (0, 2, 4)]
        for i in range(4):
            for j in range(6):
                scores = np.array([(x[b, i, j] @ query) @ (block @ key).max(axis=0) for block in blocks])
                weights = np.exp(scores) / np.exp(scores).sum()
                seen = sum(w * (block @ value).max(axis=0) for w, block in zip(weights, blocks, strict=True))
                expected[b, i, j] += 0.8 * (seen @ out)
    np.testing.assert_allclose(jax.jit(layer.apply)({"params": params}, x), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["biggan", "sagan"])
def test_weights_start_orthogonal(name, monkeypatch):
    """Every kernel and table; what a shape starts with is drawn once."""
    starts, param = [], nn.Module.param

    def spy(self, name, init, *args, **options):
        if args and len(args[0]) > 1:
            starts.append((init, args[0]))
        return param(self, name, init, *args, **options)

    monkeypatch.setattr(nn.Module, "param", spy)
    nets = build(name, (8,) * 3, (8,) * 3, image_size=16, num_classes=3)
    jax.eval_shape(lambda: initialise(*nets, Z))
    assert len(starts) > 30
    for start in jax.jit(lambda: [init(KEY, shape) for init, shape in set(starts)])():
        w = np.asarray(start).reshape(-1, start.shape[-1])
        gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(gram, np.eye(min(w.shape)), atol=1e-5)


@pytest.mark.long
def test_gradients_reach_every_weight_of_g_in_bfloat16():
    g, _, variables, _ = tiny("biggan")
    g, z, labels = g.clone(dtype=jnp.bfloat16), normal(4, Z), jnp.array([0, 1, 2, 1])

    @jax.jit
    @jax.grad
    def gradients(params):
        images, _ = g.apply({**variables, "params": params}, z, labels, True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(images[:, :5]))

    for path, grad in jax.tree_util.tree_leaves_with_path(gradients(variables["params"])):
        assert grad.dtype == jnp.float32
        assert bool(jnp.isfinite(grad).all()), path
        if grad.ndim > 1:  # a bias before batch norm has none
            assert float(jnp.abs(grad).max()) > 0, path


@pytest.mark.parametrize("name", ["biggan", "sagan"])
def test_spectral_norm_of_every_weight_is_one(name):
    """After many power iterations each weight is divided by its largest singular value; but for BigGAN's classes."""
    g, d, *both = tiny(name)
    inputs = normal(2, Z), normal(2, 16, 16, 3)
    for module, variables, x in zip((g, d), both, inputs, strict=True):

        @jax.jit
        def iterate(v, module=module, x=x):
            def step(_, v):
                stats = module.apply(v, x, jnp.arange(2), True, mutable=["batch_stats"])[1]["batch_stats"]
                vectors = {k: s for k, s in stats.items() if k.startswith("sn_")}  # so no layer is computed
                return {**v, "batch_stats": v["batch_stats"] | vectors}

            return jax.lax.fori_loop(0, 200, step, v)["batch_stats"]

        sigmas = {}
        for key, stats in iterate(variables).items():
            if key.startswith("sn_"):
                sigmas |= {k.removesuffix("/sigma"): v for k, v in stats.items() if k.endswith("/sigma")}
        weights = {
            "/".join(k.key for k in path): w.reshape(-1, w.shape[-1])
            for path, w in jax.tree_util.tree_flatten_with_path(variables["params"])[0]
            if w.ndim > 1
        }
        assert set(weights) - set(sigmas) == ({"classes/embedding"} if (name, module) == ("biggan", g) else set())
        for key, sigma in sigmas.items():
            np.testing.assert_allclose(sigma, np.linalg.norm(weights[key], 2), rtol=1e-2, err_msg=key)


def test_each_chunk_of_z_reaches_one_place_and_the_class_every_block():
    g, _, variables, _ = tiny("biggan")

    @jax.jit
    def affine(z, labels):
        """Returns the outputs of the dense layers by name."""
        _, state = g.apply(variables, z, labels, False, capture_intermediates=lambda m, _: hasattr(m, "use_bias"))
        outputs = {k: v["__call__"][0] for k, v in state["intermediates"].items() if "__call__" in v}
        return {k: v for k, v in outputs.items() if v.ndim == 2}

    z, labels = normal(1, Z), np.array([1])
    before = jax.device_get(affine(z, labels))
    block = [{f"{what}_{i}{half}" for what in ("gain", "bias") for half in "ab"} for i in range(2)]
    assert set(before) == {"dense"} | block[0] | block[1]

    def changed(after):
        return {name for name in after if np.any(np.asarray(after[name]) != before[name])}

    for chunk, places in enumerate([{"dense"}, *block]):
        assert changed(affine(np.where(np.arange(Z) // 4 == chunk, np.float32(0.0), z), labels)) == places
    assert changed(affine(z, np.array([2]))) == block[0] | block[1]


def test_an_uneven_split_uses_all_of_z():
    g, _ = build("biggan", WIDTHS, WIDTHS, image_size=16, num_classes=3)
    shapes = jax.eval_shape(lambda: g.init(KEY, jnp.zeros((1, 14)), jnp.zeros(1, jnp.int32), False))["params"]
    rows = [shapes[name]["kernel"].shape[0] for name in ("dense", "gain_0a", "gain_1a")]
    assert rows == [5, 128 + 5, 128 + 4]


@pytest.mark.parametrize("relu_skips", [True, False])
def test_skips_of_d_with_and_without_relu(relu_skips):
    """Residual branches silenced and weights orthogonal (norm 1), D is two 1x1 convolutions and a linear logit."""
    d = biggan.Discriminator(channels=(8,) * 4, num_classes=3, relu_skips=relu_skips)
    x, labels, random = normal(2, 32, 32, 3), np.array([2, 0]), np.random.RandomState(0)

    def value(path, leaf):
        if path[0].key == "batch_stats" or len(leaf.shape) == 1:
            return np.asarray(random.randn(*leaf.shape), np.float32)
        if path[1].key.startswith("conv_") and path[1].key.endswith("b"):
            return np.zeros(leaf.shape, np.float32)
        if not leaf.shape:
            return np.float32(0.0)  # the strength of attention
        matrix = random.randn(np.prod(leaf.shape[:-1]), leaf.shape[-1])
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        return (left @ right).reshape(leaf.shape).astype(np.float32)

    variables = jax.eval_shape(lambda: d.init(KEY, x, labels, False))
    variables = jax.tree_util.tree_map_with_path(value, dict(variables))
    params = jax.tree.map(lambda p: p if p.ndim > 1 else 0 * p, variables["params"])  # no biases
    logits, _ = jax.jit(lambda v: d.apply(v, x, labels, False))({**variables, "params": params})

    def pooled(x):
        return x.reshape(2, x.shape[1] // 2, 2, -1, 2, x.shape[-1]).mean(axis=(2, 4))

    h = pooled(x) @ params["skip_0"]["kernel"][0, 0]
    h = np.maximum(h, 0) if relu_skips else h
    h = np.maximum(pooled(h) @ params["skip_1"]["kernel"][0, 0], 0).sum(axis=(1, 2))
    expected = h @ params["logit"]["kernel"][:, 0] + (h * params["classes"]["embedding"][labels]).sum(axis=-1)
    np.testing.assert_allclose(logits, expected, rtol=1e-4)


def test_a_small_pair_by_widths_has_under_a_million_parameters():
    nets = build("biggan", (64,) * 4, (64,) * 4, image_size=32, num_classes=10)
    shapes = jax.eval_shape(lambda: initialise(*nets, 80))
    assert sum(x.size for v in shapes for x in jax.tree.leaves(v["params"])) < 1_000_000


def test_mistakes_are_named():
    g, _ = build("biggan", WIDTHS, WIDTHS, image_size=16, num_classes=3)
    labels = jnp.zeros(1, jnp.int32)
    with pytest.raises(ValueError, match=r"^z_dim=2: biggan splits z into 3 chunks"):
        g.init(KEY, jnp.zeros((1, 2)), labels, False)
    with pytest.raises(ValueError, match=r"^attention_size=12: at 16 pixels choose one of 0, 8, 16"):
        g.clone(attention_size=12).init(KEY, jnp.zeros((1, Z)), labels, False)
    with pytest.raises(ValueError, match=r"^channels=8: attention takes 8 or more, .* not 5x4"):
        SelfAttention().init(KEY, jnp.zeros((1, 5, 4, 8)))
    with pytest.raises(ValueError, match=r"^channels=7: attention takes 8 or more"):
        SelfAttention().init(KEY, jnp.zeros((1, 4, 4, 7)))


def test_attention_follows_the_first_block_of_a_size():
    assert attention_block(None, 32, [16, 8, 8, 8]) == 0
    assert attention_block(8, 32, [16, 8, 8, 8]) == 1
    assert attention_block(0, 32, [16, 8, 8, 8]) is None
    assert attention_block(None, 128, [8, 16, 32, 64, 128]) == 3
