"""BigGAN and SAGAN: sizes to the digit, StudioGAN's own numbers, attention, spectral norm, split latents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.gan.losses import hinge_d, negative_logits_g
from jaxgan.gan.state import make_nets
from jaxgan.models import MODELS, biggan
from jaxgan.models.layers import SelfAttention, attention_block
from jaxgan.settings import default_config

KEY = jax.random.key(0)
TINY = dict(image_size=16, num_classes=3)
WIDTHS = (16, 8, 8)
Z = 12  # of the tiny generators: three chunks of 4


def build(name, g_channels, d_channels, **fields):
    modules = MODELS[name]
    return modules.Generator(channels=g_channels, **fields), modules.Discriminator(channels=d_channels, **fields)


def initialise(g, d, z_dim):
    label = jnp.zeros(1, jnp.int32)
    images = jnp.zeros((1, d.image_size, d.image_size, d.image_channels))
    return g.init(KEY, jnp.zeros((1, z_dim)), label, False), d.init(KEY, images, label, False)


def perturbed(variables):
    """The same with some numbers added to every parameter, so that no weight is orthogonal and attention is on."""
    leaves, treedef = jax.tree.flatten(variables["params"])
    rng = np.random.RandomState(0)
    leaves = [leaf + np.float32(0.3 * rng.randn(*leaf.shape)) for leaf in leaves]
    return {**variables, "params": jax.tree.unflatten(treedef, leaves)}


@functools.cache
def tiny(name, num_classes=3):
    """Generator, discriminator and their variables as they start."""
    g, d = build(name, WIDTHS, WIDTHS, **TINY | {"num_classes": num_classes})
    return g, d, *jax.jit(lambda: initialise(g, d, Z))()


def count(variables):
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


# Of StudioGAN's networks, and at 128 pixels of the paper's too: 70.4 and 88.0 million. None: a size of our own.
@pytest.mark.parametrize(
    ("name", "size", "num_classes", "z_dim", "expected"),
    [
        ("biggan", 16, 10, 60, None),
        ("biggan", 32, 10, 80, (9_416_196, 2_415_170)),
        ("biggan", 32, 0, 80, (9_416_196 - 10 * 128 - 12 * 128 * 384, 2_415_170 - 10 * 192)),
        ("biggan", 64, 100, 100, (17_322_404, 30_668_722)),
        ("biggan", 128, 1000, 120, (70_433_988, 87_982_370)),
        ("sagan", 16, 10, 128, None),
        ("sagan", 32, 10, 128, (4_386_308, 1_075_586)),
        ("sagan", 32, 0, 128, (4_276_739 + 81_921, 1_053_825 + 20_481)),
        ("sagan", 64, 10, 128, None),
    ],
)
def test_shapes_and_parameter_counts(name, size, num_classes, z_dim, expected):
    g, d = build(name, (), (), image_size=size, num_classes=num_classes)

    def run():
        labels = jnp.zeros(2, jnp.int32)
        images, g_variables = g.init_with_output(KEY, jnp.zeros((2, z_dim)), labels, False)
        logits, d_variables = d.init_with_output(KEY, images, labels, False)
        return images, logits, g_variables, d_variables

    images, logits, *variables = jax.eval_shape(run)
    assert (images.shape, images.dtype) == ((2, size, size, 3), jnp.float32)
    assert (logits.shape, logits.dtype) == ((2,), jnp.float32)
    if expected:
        assert tuple(map(count, variables)) == expected


def official_case(name):
    """Small nets of `name` at 32 pixels with weights that depend on a seed and their names only, and inputs."""
    fields = dict(image_size=32, num_classes=5)
    own = {"shared_dim": 6} if name == "biggan" else {}
    g = MODELS[name].Generator(channels=(16,) * 4, **fields, **own)
    d = MODELS[name].Discriminator(channels=(8,) * 4, **fields)
    rng = np.random.RandomState(1)

    def value(path, leaf):
        leaf_name = path[-1].key.split("/")[-1]
        constants = {"mean": 0.0, "var": 1.0, "sigma": 0.7}  # the norms' sigma is only written
        if leaf_name in constants:
            return np.full(leaf.shape, constants[leaf_name], np.float32)
        numbers = rng.randn(*leaf.shape).astype(np.float32)
        return numbers if leaf_name == "u" else 0.3 * numbers + (leaf_name == "scale")

    shapes = jax.eval_shape(lambda: initialise(g, d, 8))
    g_variables, d_variables = (jax.tree_util.tree_map_with_path(value, dict(s)) for s in shapes)
    # PyTorch iterates over a table from the side of the classes: both agree where they start at the fixed point.
    table = d_variables["params"]["classes"]["embedding"]
    d_variables["batch_stats"]["sn_classes"]["classes/embedding/u"] = np.linalg.svd(table)[2][:1]
    z, images = rng.randn(4, 8).astype(np.float32), rng.uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
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


@pytest.mark.parametrize("name", ["biggan", "sagan"])
def test_the_numbers_are_studiogans(name):
    case = official_case(name)
    images, labels = case["images"], case["labels"]

    def apply(module, variables, x):
        return module.apply(variables, x, labels, True, mutable=["batch_stats"])[0]

    def loss_d(params):
        logits = apply(case["d"], {**case["d_variables"], "params": params}, images)
        return jnp.mean(jax.nn.relu(1.0 - logits)), logits

    @jax.jit
    def run(g_variables, d_variables):
        fakes = apply(case["g"], g_variables, case["z"])
        grads, logits_real = jax.grad(loss_d, has_aux=True)(d_variables["params"])
        squares = jnp.mean(jnp.square(fakes), axis=(1, 2, 3))
        logits_fake = apply(case["d"], d_variables, fakes)
        return fakes[:, 16, 16, 0], squares, logits_fake, logits_real, optax.tree.norm(grads)

    found = run(case["g_variables"], case["d_variables"])
    for ours, theirs in zip(found, OFFICIAL[name], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_attention_by_loops():
    x = np.asarray(jax.random.normal(KEY, (2, 4, 6, 16)))
    layer = SelfAttention()
    params = jax.tree.map(np.asarray, layer.init(KEY, x)["params"])
    np.testing.assert_array_equal(layer.apply({"params": params}, x), x)  # sigma starts at 0
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
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["biggan", "sagan"])
def test_weights_start_orthogonal(name):
    matrices = [w for w in jax.tree.leaves([v["params"] for v in tiny(name)[2:]]) if w.ndim > 1]
    assert len(matrices) > 30
    for w in matrices:
        w = w.reshape(-1, w.shape[-1])
        gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(gram, np.eye(min(w.shape)), atol=1e-5)


@pytest.mark.parametrize("name", ["biggan", "sagan"])
def test_spectral_norm_of_every_weight_is_one(name):
    """After many power iterations each weight is divided by its largest singular value; but for BigGAN's classes."""
    g, d, g_variables, d_variables = tiny(name)
    inputs = jax.random.normal(KEY, (2, Z)), jax.random.normal(KEY, (2, 16, 16, 3))
    for module, variables, x in zip((g, d), map(perturbed, (g_variables, d_variables)), inputs, strict=True):

        @jax.jit
        def step(v, module=module, x=x):
            stats = module.apply(v, x, jnp.arange(2), True, mutable=["batch_stats"])[1]["batch_stats"]
            vectors = {k: s for k, s in stats.items() if k.startswith("sn_")}  # without the rest, no layer is computed
            return {**v, "batch_stats": v["batch_stats"] | vectors}

        for _ in range(200):
            variables = step(variables)
        sigmas = {}
        for key, stats in variables["batch_stats"].items():
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
    variables = perturbed(variables)

    @jax.jit
    def affine(z, labels):
        """Outputs of the dense layers by name."""
        _, state = g.apply(variables, z, labels, False, capture_intermediates=lambda m, _: hasattr(m, "use_bias"))
        outputs = {k: v["__call__"][0] for k, v in state["intermediates"].items() if "__call__" in v}
        return {k: v for k, v in outputs.items() if v.ndim == 2}

    z, labels = jax.random.normal(KEY, (1, Z)), jnp.array([1])
    before = affine(z, labels)
    block = [{f"{what}_{i}{half}" for what in ("gain", "bias") for half in "ab"} for i in range(2)]
    assert set(before) == {"dense"} | block[0] | block[1]

    def changed(after):
        return {name for name in after if bool(jnp.any(after[name] != before[name]))}

    for chunk, places in enumerate([{"dense"}, *block]):
        assert changed(affine(z.at[:, 4 * chunk : 4 * chunk + 4].set(0.0), labels)) == places
    assert changed(affine(z, jnp.array([2]))) == block[0] | block[1]


def test_an_uneven_split_uses_all_of_z():
    g, _ = build("biggan", WIDTHS, WIDTHS, **TINY)
    shapes = jax.eval_shape(lambda: g.init(KEY, jnp.zeros((1, 14)), jnp.zeros(1, jnp.int32), False))["params"]
    rows = [shapes[name]["kernel"].shape[0] for name in ("dense", "gain_0a", "gain_1a")]
    assert rows == [5, 128 + 5, 128 + 4]


@pytest.mark.parametrize("relu_skips", [True, False])
def test_skips_of_d_with_and_without_relu(relu_skips):
    """Residual branches silenced and weights orthogonal (norm 1), D is two 1x1 convolutions and a linear logit."""
    d = biggan.Discriminator(channels=(8,) * 4, num_classes=3, relu_skips=relu_skips)
    x, labels = jax.random.normal(KEY, (2, 32, 32, 3)), jnp.array([2, 0])
    variables = jax.jit(lambda: d.init(KEY, x, labels, False))()
    params = dict(variables["params"])
    for i in range(4):
        params[f"conv_{i}b"] = jax.tree.map(jnp.zeros_like, params[f"conv_{i}b"])
    logits = jax.jit(lambda v: d.apply(v, x, labels, False))({**variables, "params": params})

    def pooled(x):
        return x.reshape(2, x.shape[1] // 2, 2, -1, 2, x.shape[-1]).mean(axis=(2, 4))

    h = pooled(x) @ params["skip_0"]["kernel"][0, 0]
    h = jax.nn.relu(h) if relu_skips else h
    h = jax.nn.relu(pooled(h) @ params["skip_1"]["kernel"][0, 0]).sum(axis=(1, 2))
    expected = h @ params["logit"]["kernel"][:, 0] + (h * params["classes"]["embedding"][labels]).sum(axis=-1)
    np.testing.assert_allclose(logits, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "num_classes", "dtype"),
    [
        ("biggan", 3, jnp.float32),
        ("biggan", 0, jnp.bfloat16),
        pytest.param("biggan", 3, jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param("sagan", 3, jnp.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_gradients_reach_every_weight(name, num_classes, dtype):
    g, d, *variables = tiny(name, num_classes)
    g_variables, d_variables = map(perturbed, variables)
    g, d = g.clone(dtype=dtype), d.clone(dtype=dtype)
    z, images = jax.random.normal(KEY, (4, Z)), jax.random.uniform(KEY, (4, 16, 16, 3), minval=-1.0)
    labels = jnp.array([0, 1, 2, 1]) if num_classes else None

    def apply(module, variables, params, x):
        return module.apply({**variables, "params": params}, x, labels, True, mutable=["batch_stats"])[0]

    def losses(params):
        fakes = apply(g, g_variables, params["g"], z)
        logits_real, logits_fake = (apply(d, d_variables, params["d"], x) for x in (images, fakes))
        return jnp.mean(negative_logits_g(None, logits_fake) + 0.5 * hinge_d(logits_real, logits_fake))

    grads = jax.jit(jax.grad(losses))({"g": g_variables["params"], "d": d_variables["params"]})
    for path, grad in jax.tree_util.tree_flatten_with_path(grads)[0]:
        assert grad.dtype == jnp.float32
        assert bool(jnp.all(jnp.isfinite(grad))), path
        if grad.ndim > 1:  # a bias before batch norm has none
            assert float(jnp.abs(grad).max()) > 0, path


def test_a_small_version_of_the_config_has_under_a_million_parameters():
    config = default_config()
    config.data.image_size, config.data.channels, config.data.num_classes = 32, 3, 10
    config.model.update(name="biggan", conditional=True, z_dim=80, g_channels=(64,) * 4, d_channels=(64,) * 4)
    nets = make_nets(config)
    shapes = jax.eval_shape(lambda: initialise(nets.g, nets.d, nets.z_dim))
    assert sum(map(count, shapes)) < 1_000_000


def test_mistakes_are_named():
    g, _ = build("biggan", WIDTHS, WIDTHS, **TINY)
    labels = jnp.zeros(1, jnp.int32)
    with pytest.raises(ValueError, match="z of 2 numbers: BigGAN splits it into 3 chunks"):
        g.init(KEY, jnp.zeros((1, 2)), labels, False)
    with pytest.raises(ValueError, match="attention_size=12: at 16 pixels choose one of 0, 8, 16"):
        g.clone(attention_size=12).init(KEY, jnp.zeros((1, Z)), labels, False)
    with pytest.raises(ValueError, match="5x4 maps of 8 channels"):
        SelfAttention().init(KEY, jnp.zeros((1, 5, 4, 8)))
    with pytest.raises(ValueError, match="4x4 maps of 7 channels"):
        SelfAttention().init(KEY, jnp.zeros((1, 4, 4, 7)))


def test_attention_follows_the_first_block_of_a_size():
    assert attention_block(None, 32, [16, 8, 8, 8]) == 0
    assert attention_block(8, 32, [16, 8, 8, 8]) == 1
    assert attention_block(0, 32, [16, 8, 8, 8]) is None
    assert attention_block(None, 128, [8, 16, 32, 64, 128]) == 3
