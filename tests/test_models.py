"""What every architecture promises (jaxgan/models/__init__.py), sizes to the digit, and the layers that nets share."""

import functools
import inspect
import math
import re
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan.models
from jaxgan.models import MODELS, r3gan, r3gan2
from jaxgan.models.layers import (
    BaseDiscriminator,
    BaseGenerator,
    BatchNorm,
    Conv,
    ConvTranspose,
    broadcast_like,
    conv_downsample,
    downsample,
    dropout,
    upsample,
    upsample_conv,
)
from jaxgan.ops.colour import from_opponent, to_opponent
from jaxgan.ops.conv import conv
from tests.helpers import random_keys

# Parameters of G and D at (pixels, classes, Z), as published or counted in the published code: StudioGAN, mimicry, the
# paper of BigGAN (128 pixels), the official nets of StyleGAN2-ADA (as StudioGAN logs them), R3GAN and R3GAN2.
COUNTS = {
    ("mlp", 32, 0, 128): (
        129 * 128 + 256 + 129 * 1024 + 2048 + 1025 * 3072,
        27 * 64 + 64 + 576 * 128 + 128 + 8 * 8 * 128 + 1,
    ),
    ("dcgan", 32, 0, 128): (3_812_355, 2_931_009),
    # Tables of 10 classes: a gain and a bias in the batch norms of G, of 256, 128 and 64 channels; a vector in D.
    ("dcgan", 32, 10, 128): (3_812_355 + 18 * (256 + 128 + 64), 2_931_009 + 5120),
    # 4x4 convolutions with a bias, batch norm but on the first of D's, dense layers to and from 4x4 pixels of 256.
    ("dcgan_strided", 32, 0, 128): (
        129 * 4096 + 512 + (16 * 256 * 128 + 128 + 256) + (16 * 128 * 64 + 64 + 128) + (16 * 64 * 3 + 3),
        (16 * 3 * 64 + 64) + (16 * 64 * 128 + 128 + 256) + (16 * 128 * 256 + 256 + 512) + 4097,
    ),
    ("sngan", 32, 0, 128): (4_276_739, 1_053_825),
    ("sngan", 32, 10, 128): (4_304_387, 1_055_105),
    ("sagan", 32, 0, 128): (4_276_739 + 81_921, 1_053_825 + 20_481),
    ("sagan", 32, 10, 128): (4_386_308, 1_075_586),
    ("biggan", 32, 0, 80): (9_416_196 - 10 * 128 - 12 * 128 * 384, 2_415_170 - 10 * 192),
    ("biggan", 32, 10, 80): (9_416_196, 2_415_170),
    ("biggan", 64, 100, 100): (17_322_404, 30_668_722),
    ("biggan", 128, 1000, 120): (70_433_988, 87_982_370),
    ("stylegan2", 32, 0, 512): (19_947_539, 20_720_641),
    ("stylegan2", 32, 10, 512): (20_215_315, 23_089_664),
    ("r3gan", 32, 0, 64): (20_732_160, 20_683_776),
    ("r3gan", 32, 10, 64): (20_781_952, 21_280_512),
    ("r3gan", 256, 0, 64): (23_057_952, 23_009_568),
    ("r3gan2", 32, 0, 64): (17_269_249, 17_192_448),
    ("r3gan2", 32, 10, 64): (17_335_425, 17_720_832),
    ("r3gan2", 256, 0, 64): (24_855_425, 24_771_456),
}
# Published nets that take fields of their own: name, pixels, classes, Z, fields of G, fields of D, counts.
OTHER_COUNTS = [
    ("stylegan2", 1024, 0, 512, dict(mapping_layers=8), dict(architecture="resnet"), (30_370_060, 29_012_513)),
    (
        "stylegan2", 256, 0, 512,
        dict(mapping_layers=8, channel_base=16384), dict(architecture="resnet", channel_base=16384),
        (24_767_458, 24_001_089),
    ),
    (
        "r3gan", 64, 1000, 64,
        *[dict(channels=r3gan.IMAGENET_WIDTHS[64], group_width=32)] * 2, (103_570_432, 107_205_120),
    ),
    ("r3gan2", 64, 1000, 64, *[dict(channels=r3gan2.IMAGENET_WIDTHS[64])] * 2, (80_104_961, 82_867_200)),
]  # fmt: skip
# Sizes at the ends of what an architecture does; no counts were published for them.
OTHER_SIZES = [
    ("mlp", 8), ("mlp", 64), ("dcgan", 16), ("dcgan", 64), ("dcgan_strided", 16), ("dcgan_strided", 64),
    ("sngan", 16), ("sngan", 64), ("sagan", 16), ("biggan", 16), ("stylegan2", 8), ("r3gan", 8),
    ("r3gan2", 8),
]  # fmt: skip
CASES = (
    [(*case, {}, {}, counts) for case, counts in COUNTS.items()]
    + OTHER_COUNTS
    + [(name, size, 10, 64, {}, {}, None) for name, size in OTHER_SIZES]
)


def count(variables):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))


@pytest.fixture
def zeros_at_first(monkeypatch):
    """Starts parameters as zeros of the shape that is asked for: to trace how they are drawn takes half of the time."""
    param = nn.Module.param

    def of_zeros(self, name, init, *args, **options):
        return param(self, name, nn.initializers.zeros if args else init, *args, **options)

    monkeypatch.setattr(nn.Module, "param", of_zeros)


@pytest.mark.parametrize(("name", "size", "num_classes", "z_dim", "fields_g", "fields_d", "counts"), CASES)
def test_shapes_and_parameter_counts(name, size, num_classes, z_dim, fields_g, fields_d, counts, request):
    """The starts of each architecture are traced at the sizes of which no counts are asserted."""
    if counts:
        request.getfixturevalue("zeros_at_first")
    generator, discriminator = MODELS[name]
    common = dict(image_size=size, num_classes=num_classes)
    g, d = generator(**common, **fields_g), discriminator(**common, **fields_d)
    labels = jnp.arange(2) if num_classes else None

    def run():
        keys = jax.random.split(jax.random.key(1), 2)
        images, variables_g = g.init_with_output(keys[0], jnp.zeros((2, z_dim)), labels, False, keys)
        return images, *d.init_with_output(keys[1], images, labels, False, keys), variables_g

    images, (logits, outputs), variables_d, variables_g = jax.eval_shape(run)
    assert (images.shape, images.dtype) == ((2, size, size, 3), jnp.float32)
    assert (logits.shape, logits.dtype) == ((2,), jnp.float32)
    assert list(outputs) == ["features"]
    assert {x.dtype for x in jax.tree.leaves((variables_g, variables_d))} == {jnp.dtype(jnp.float32)}
    assert counts in (None, (count(variables_g), count(variables_d)))


# The smallest of each architecture: pixels, fields of G and of D.
TINY = {
    "mlp": (8, dict(channels=(8, 8)), dict(channels=(8, 8))),
    "dcgan": (16, dict(channels=(16, 8, 8)), dict(channels=(8, 8, 16))),
    "dcgan_strided": (16, dict(channels=(16, 8)), dict(channels=(8, 16))),
    "sngan": (16, dict(channels=(8,) * 3), dict(channels=(8,) * 3)),
    "sagan": (16, dict(channels=(8,) * 3), dict(channels=(8,) * 3)),
    "biggan": (16, dict(channels=(8,) * 3, shared_dim=8), dict(channels=(8,) * 3)),
    "stylegan2": (8, dict(channels=(8, 8), w_dim=16), dict(channels=(8, 8), mapping_layers=1)),
    "r3gan": (8, dict(channels=(16, 16), blocks=1), dict(channels=(16, 16), blocks=1)),
    "r3gan2": (8, *[dict(channels=(16,), blocks=1, group_width=16)] * 2),
}
BOUNDED = set(TINY) - {"stylegan2", "r3gan", "r3gan2"}  # the generators that end in tanh
Z, KEYS = np.random.default_rng(3).standard_normal((4, 16), np.float32), random_keys(4)
LABELS = np.array([0, 1, 2, 1])


def images(name):
    size = TINY[name][0]
    return np.random.default_rng(2).uniform(-1.0, 1.0, (4, size, size, 3)).astype(np.float32)


def nets(name, num_classes=3, **fields_d):
    size, own_g, own_d = TINY[name]
    common = dict(image_size=size, num_classes=num_classes)
    return MODELS[name][0](**common, **own_g), MODELS[name][1](**common, **own_d, **fields_d)


def draws(shapes, equalised):
    """Returns variables of these shapes, normal draws over the root of the fan-in, so that every part of a net acts.

    With `equalised` learning rates a net does that division itself, and divides by 100 more in the mapping network.
    """
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key.split("/")[-1]
        if name in ("sigma", "var"):
            return np.ones(leaf.shape, np.float32)
        values = generator.standard_normal(leaf.shape, np.float32)
        if equalised:
            return values * (100.0 if "mapping" in path[1].key else 1.0)
        return values / math.sqrt(math.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.3 * values

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def tiny(name):
    """Returns the nets of `name` with 3 classes, their variables, and what they make in training, compiled."""
    pair = nets(name)

    def initialise():
        return [net.init(KEYS[0], x, LABELS, False, KEYS) for net, x in zip(pair, (Z, images(name)), strict=True)]

    variables = [draws(dict(shapes), name == "stylegan2") for shapes in jax.eval_shape(initialise)]

    def compiled(net):
        apply = jax.jit(lambda v, x, labels: net.apply(v, x, labels, True, KEYS, mutable=list(v))[0])
        return lambda *args: jax.device_get(apply(*args))

    return pair, variables, [compiled(net) for net in pair]


@pytest.mark.parametrize("name", TINY)
def test_pair(name):
    """Ranges, labels and what a logit depends on, by one program of each net."""
    _, (variables_g, variables_d), (generate, discriminate) = tiny(name)
    fakes = generate(variables_g, 100 * Z, LABELS)
    assert np.abs(fakes).max() <= 1.0 or name not in BOUNDED
    reals, ones = images(name), np.ones(4, int)
    logits = discriminate(variables_d, reals, ones)[0]

    # Labels act in G, and in D on the logit of their own example.
    assert np.abs(generate(variables_g, Z, ones) - generate(variables_g, Z, 2 * ones)).max() > 1e-4
    twos, mixed = (discriminate(variables_d, reals, y)[0] for y in (2 * ones, np.array([1, 2, 1, 2])))
    assert np.abs(logits - twos).min() > 1e-5
    np.testing.assert_allclose(mixed, np.where(np.arange(4) % 2, twos, logits), rtol=1e-4, atol=1e-5)

    # Another last example changes the logits of the others just where an architecture says so.
    others = discriminate(variables_d, np.concatenate([reals[:3], -0.5 * reals[3:]]), ones)[0]
    change = np.abs(others - logits)[:3].max()
    assert change > 1e-4 if MODELS[name][1].batch_dependent else change < 1e-5
    assert np.abs(others - logits)[3] > 1e-4

    # Nothing squashes a logit: what is added to the bias of the last layer is added to it.
    if "logit" in variables_d["params"]:
        params = variables_d["params"]
        raised = params | {"logit": params["logit"] | {"bias": params["logit"]["bias"] + 7.0}}
        higher = discriminate(variables_d | {"params": raised}, reals, ones)[0]
        np.testing.assert_allclose(higher - logits, 7.0, rtol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_normalised_parameters_are_the_same_net(name):
    """They may be other numbers, and are in R3GAN2, but make the same images and logits."""
    pair, variables, applies = tiny(name)
    for net, apply, variables_, x in zip(pair, applies, variables, (Z, images(name)), strict=True):
        params = jax.jit(net.normalise_params)(variables_["params"])
        assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, variables_["params"])
        one, two = (jax.tree.leaves(apply(v, x, LABELS))[0] for v in (variables_, variables_ | {"params": params}))
        assert np.linalg.norm(one - two) <= 0.01 * np.linalg.norm(one)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16(name):
    """Images and logits are float32, and nearly those of a net in float32."""
    pair, variables, (generate, discriminate) = tiny(name)

    @jax.jit
    def run(variables):
        x, results = Z, []
        for net, variables_ in zip(pair, variables, strict=True):
            net = net.clone(dtype=jnp.bfloat16)
            result, _ = net.apply(variables_, x, LABELS, True, KEYS, mutable=list(variables_))
            x = result[0] if isinstance(result, tuple) else result
            results.append(x)
        return results

    fakes = generate(variables[0], Z, LABELS)
    full_precision = fakes, discriminate(variables[1], fakes, LABELS)[0]
    for low, full in zip(jax.device_get(run(variables)), full_precision, strict=True):
        assert low.dtype == np.float32
        assert 0 < np.linalg.norm(low - full) < 0.1 * np.linalg.norm(full)


@pytest.mark.usefixtures("zeros_at_first")
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_san_has_the_parameters_of_the_plain_net_and_one_output_more(name, num_classes):
    def shapes(**fields):
        d = nets(name, num_classes, **fields)[1]
        (_, outputs), variables = jax.eval_shape(lambda: d.init_with_output(KEYS[0], images(name), LABELS, False, KEYS))
        return jax.tree.map(jnp.shape, (variables, outputs))

    (variables, outputs), (variables_san, outputs_san) = shapes(), shapes(san=True)
    assert variables["params"] == variables_san["params"]
    assert list(outputs) == ["features"]
    assert outputs_san == outputs | {"direction": (4,)}


@pytest.mark.parametrize("name", [name for name in TINY if MODELS[name][0].latent_layers])
def test_latents_enter_affine_layers(name):
    """The outputs of `latent_layers` at the middle of two latents are in the middle."""
    (g, _), (variables, _), _ = tiny(name)
    styles = hasattr(g, "synthesis")
    capture = dict(
        mutable=["intermediates"],
        capture_intermediates=lambda layer, method: (
            method == "__call__" and re.fullmatch(g.latent_layers, layer.name or "")
        ),
    )

    @jax.jit
    def captured(latents):
        if styles:
            _, state = g.apply(variables, latents, KEYS, method="synthesis", **capture)
        else:
            _, state = g.apply(variables, latents, LABELS, False, KEYS, **capture)
        return jax.tree.leaves(state["intermediates"])

    def outputs(latents):
        return jax.device_get(captured(latents))

    one, two = np.random.default_rng(5).standard_normal((2, 4, *((4, 16) if styles else (16,))), np.float32)
    for a, b, middle in zip(outputs(one), outputs(two), outputs((one + two) / 2), strict=True):
        assert np.abs(a - b).max() > 0.01
        np.testing.assert_allclose(middle, (a + b) / 2, atol=1e-4)


def test_blocks_of_sngan_that_halve():
    """They are the first ones, and one of as many channels as the one before it has a skip of its own if it halves."""
    images = jnp.zeros((1, 32, 32, 3))

    def skips_and_sizes(**fields):
        d = MODELS["sngan"][1](channels=(8,) * 4, spectral=False, **fields)
        _, seen = jax.eval_shape(lambda: d.init_with_output(KEYS[0], images, None, False, capture_intermediates=True))
        sizes = [seen["intermediates"][f"conv_{i}a"]["__call__"][0].shape[1] for i in range(4)]  # before it halves
        return [name for name in sorted(seen["params"]) if name.startswith("skip")], sizes

    assert skips_and_sizes() == skips_and_sizes(halvings=2) == (["skip_0", "skip_1"], [32, 16, 8, 8])
    assert skips_and_sizes(halvings=3) == (["skip_0", "skip_1", "skip_2"], [32, 16, 8, 4])
    for halvings in (-1, 5):
        with pytest.raises(ValueError, match=rf"^halvings={halvings}: must be in 0 \.\. 4, the number of blocks"):
            skips_and_sizes(halvings=halvings)


# Ohta et al. (1980), I1 = (R + G + B) / 3, I2 = (R - B) / 2, I3 = (2 G - R - B) / 4, times sqrt 3, 3 and 6.
OHTA = np.array([[1 / 3, 1 / 2, -1 / 4], [1 / 3, 0, 1 / 2], [1 / 3, -1 / 2, -1 / 4]]) * [math.sqrt(3), 3, 6]


@pytest.mark.parametrize("name", ["sngan", "sagan"])
def test_nets_in_opponent_colours_are_those_in_rgb_with_other_kernels_at_the_image(name):
    """An opponent D of kernels K sees RGB through OHTA K; an opponent G of kernels K OHTA paints the RGB of K."""
    g, d = (net(channels=(8,) * 4, spectral=False) for net in MODELS[name])
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)

    @jax.jit
    def answers():
        variables, seen = g.init(KEYS[0], Z[:2], None, False), d.init(KEYS[0], images, None, False)["params"]
        params = variables["params"]
        pixels = {"kernel": params["pixels"]["kernel"], "bias": jnp.array([0.1, 0.3, -0.2])}
        through = {
            name: seen[name] | {"kernel": jnp.einsum("rk,hwko->hwro", OHTA, seen[name]["kernel"])}
            for name in ("conv_0a", "skip_0")
        }
        return (
            g.apply(variables | {"params": params | {"pixels": pixels}}, Z[:2], None, False),
            g.clone(opponent=True).apply(
                variables | {"params": params | {"pixels": jax.tree.map(lambda x: x @ OHTA, pixels)}},
                Z[:2],
                None,
                False,
            ),
            d.apply({"params": seen | through}, images, None, False)[0],
            d.clone(opponent=True).apply({"params": seen}, images, None, False)[0],
        )

    painted, painted_opponent, logits, logits_opponent = answers()
    np.testing.assert_allclose(painted_opponent, painted, atol=1e-5)
    np.testing.assert_allclose(logits_opponent, logits, rtol=1e-4)
    assert np.std(painted) > 0.05


def test_opponent_colours_are_ohtas():
    rgba = np.random.default_rng(0).uniform(-1, 1, (4, 5, 4)).astype(np.float32)
    rgb, grey = rgba[..., :3], rgba[..., :1]
    np.testing.assert_allclose(to_opponent(rgb), rgb @ OHTA, atol=1e-6)
    np.testing.assert_array_equal(to_opponent(rgba)[..., :3], to_opponent(rgb))
    np.testing.assert_array_equal(to_opponent(rgba)[..., 3], rgba[..., 3])
    np.testing.assert_array_equal(to_opponent(grey), grey)
    np.testing.assert_allclose(to_opponent(np.repeat(grey, 3, axis=-1)), grey * [math.sqrt(3), 0, 0], atol=1e-6)
    for images in (rgba, rgb, grey):
        np.testing.assert_allclose(from_opponent(to_opponent(images)), images, atol=1e-6)


@pytest.mark.parametrize("name", TINY)
def test_mistakes_are_named(name):
    size = TINY[name][0]
    number = len(TINY[name][1]["channels"])
    lacking = {"ac", "multi_hinge", "adc", "d2dce"} - set(MODELS[name][1].conditionings)
    for net, z in ((MODELS[name][0], True), (MODELS[name][1], False)):
        for fields, message in [
            (dict(image_size=7), f"^image_size=7: {name} works at "),
            (
                dict(image_size=size, channels=(8,) * 9),
                rf"^channels=\(8, .*: {size}x{size} pixels take {number} widths, such as",
            ),
            (dict(image_size=size, channels=(0,) * number), r"^channels=\(0.*: widths are whole numbers from 1 on"),
        ]:
            x = Z if z else jnp.zeros((4, size, size, 3))
            with pytest.raises(ValueError, match=message):
                jax.eval_shape(lambda net=net, fields=fields, x=x: net(**fields).init(KEYS[0], x, None, False, KEYS))
    for conditioning in {*lacking, "nearest"}:
        with pytest.raises(ValueError, match=f"^conditioning='{conditioning}': {name} has projection"):
            MODELS[name][1](num_classes=3, conditioning=conditioning)
        MODELS[name][1](conditioning=conditioning)  # without classes it does not matter


def test_the_example_in_the_docstring_is_a_complete_pair():
    example = inspect.cleandoc(jaxgan.models.__doc__).split("path length:\n")[1]
    names = dict(nn=nn, jnp=jnp, BaseGenerator=BaseGenerator, BaseDiscriminator=BaseDiscriminator, __name__="example")
    exec(textwrap.dedent(example), names)
    g, d = names["Generator"](), names["Discriminator"](num_classes=3, conditioning="ac")

    def run():
        fakes, _ = g.init_with_output(KEYS[0], Z, LABELS, True, KEYS)
        return fakes, *d.init_with_output(KEYS[0], fakes, LABELS, True, KEYS)[0]

    fakes, logits, outputs = jax.tree.map(jnp.shape, jax.eval_shape(run))
    assert (fakes, logits, outputs) == ((4, 32, 32, 3), (4,), {"features": (4, 256), "classes": (4, 3)})
    with pytest.raises(ValueError, match=r"^image_size=48: example works at squares of 32, 64"):
        _ = g.clone(image_size=48).widths


def test_conditional_batch_norm_is_an_affine_map_of_each_class():
    layer = BatchNorm(num_classes=3)
    x, labels = np.random.default_rng(1).standard_normal((4, 2, 2, 5), np.float32), np.array([0, 2, 1, 2])
    gain, bias = np.random.default_rng(0).standard_normal((2, 3, 5), np.float32)
    statistics = {"norm": {"mean": np.zeros(5, np.float32), "var": np.ones(5, np.float32)}}
    params = {"gain": {"embedding": gain}, "bias": {"embedding": bias}}
    variables = {"params": params, "batch_stats": statistics}
    out, _ = jax.jit(lambda: layer.apply(variables, x, labels, True, mutable=["batch_stats"]))()
    normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    expected = normal * (1 + gain[labels])[:, None, None] + bias[labels][:, None, None]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_conv_transpose_is_the_adjoint_of_a_strided_convolution():
    """<conv(y), x> = <y, conv_transpose(x)> for the same kernel (4x4, stride 2, padding 1: 4 -> 8 pixels)."""
    layer = ConvTranspose(3, 4, 2)
    draw = np.random.default_rng(0)
    x, y = (draw.standard_normal(shape, np.float32) for shape in ((2, 4, 4, 5), (2, 8, 8, 3)))

    @jax.jit
    def both():
        up, variables = layer.init_with_output(jax.random.key(2), x)
        kernel = variables["params"]["kernel"].swapaxes(2, 3)  # [4, 4, 3, 5]
        dimensions = ("NHWC", "HWIO", "NHWC")
        return up, jax.lax.conv_general_dilated(y, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=dimensions)

    up, down = both()
    assert up.shape == y.shape
    np.testing.assert_allclose(np.vdot(up, y), np.vdot(x, down), rtol=1e-4)


def test_resampling():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    up, down, back, pooled = jax.jit(
        lambda: (upsample(x), downsample(x), downsample(upsample(x)), nn.avg_pool(x, (2, 2), (2, 2)))
    )()
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(np.asarray(up)[0, :, :, 0], np.kron(x[0, :, :, 0], np.ones((2, 2))))
    np.testing.assert_allclose(down, pooled)


def test_dropout_is_unbiased_and_belongs_to_the_example():
    x, keys = np.ones((3, 4000), np.float32), random_keys(3)
    out, others = jax.device_get(jax.jit(lambda: (dropout(x, 0.3, keys), dropout(x[1:], 0.3, keys[1:])))())
    np.testing.assert_allclose(out.mean(axis=1), 1.0, atol=0.05)
    np.testing.assert_allclose((out == 0).mean(axis=1), 0.3, atol=0.03)
    np.testing.assert_array_equal(others, out[1:])


@pytest.mark.parametrize(
    ("together", "apart"),
    [(upsample_conv, lambda x, k: conv(upsample(x), k)), (conv_downsample, lambda x, k: downsample(conv(x, k)))],
)
def test_resampling_and_convolution_are_one(together, apart):
    draw = np.random.default_rng(0)
    x, kernel = (draw.standard_normal(shape, np.float32) for shape in ((2, 6, 4, 3), (3, 3, 3, 5)))

    def gradients(convolve):
        def total(*args):
            outputs = convolve(*args)
            return jnp.sum(jnp.sin(outputs)), outputs

        return jax.grad(total, (0, 1), has_aux=True)(x, kernel)

    (ours, outputs), (others, expected) = jax.jit(lambda: (gradients(together), gradients(apart)))()
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for one, two in zip(ours, others, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_convolutions_are_those_of_flax():
    x, key = np.random.default_rng(0).standard_normal((2, 8, 8, 6), np.float32), jax.random.key(1)
    options = dict(strides=2, feature_group_count=2, bias_init=nn.initializers.ones)
    layer = Conv(4, (3, 3), strides=2, feature_group_count=2)

    @jax.jit
    def both():
        wanted, variables = nn.Conv(4, (3, 3), **options).init_with_output(key, x)
        kernels = [v["params"]["kernel"] for v in (layer.init(key, x), variables)]
        return kernels, (layer.apply(variables, x), wanted)

    kernels, outputs = both()
    np.testing.assert_array_equal(*kernels)
    np.testing.assert_allclose(*outputs, atol=1e-6)


def test_biases_have_gradients_in_float32():
    """3840 * (1 + 2 ** -7) is not a bfloat16."""
    x, y = np.zeros((15, 16, 16, 3), jnp.bfloat16), np.zeros((15, 8, 8, 3), jnp.bfloat16)
    for layer, inputs in (
        (Conv(4, (3, 3), dtype=jnp.bfloat16), x),
        (ConvTranspose(4, 4, 2, dtype=jnp.bfloat16), y),
        (BatchNorm(2, dtype=jnp.bfloat16), x),
    ):
        args = (np.zeros(15, np.int32), True) if isinstance(layer, BatchNorm) else ()

        @jax.jit
        def run(layer=layer, inputs=inputs, args=args):
            out, variables = layer.init_with_output(jax.random.key(0), inputs, *args)

            def total(params):
                out = layer.apply({**variables, "params": params}, inputs, *args, mutable=["batch_stats"])[0]
                return jnp.sum(out.astype(jnp.float32) * (1 + 2**-7))

            return out, jax.grad(total)(variables["params"])

        out, gradients = jax.device_get(run())
        assert out.dtype == jnp.bfloat16
        (bias,) = [g for path, g in jax.tree.leaves_with_path(gradients) if "bias" in jax.tree_util.keystr(path)]
        np.testing.assert_allclose(bias[..., :1].sum(), 3840 * (1 + 2**-7), rtol=1e-6)


def test_sums_over_pixels_are_made_in_float32():
    """In bfloat16 a sum of ones ends at 256, where 257 would be next."""
    x = np.zeros((15, 16, 16, 3), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda values: jnp.sum(broadcast_like(values, x).astype(jnp.float32))))(x[0, 0, 0])
    np.testing.assert_array_equal(gradient, np.full(3, 3840, jnp.bfloat16))


# Rectangles.

STAGED = [name for name, (generator, _) in MODELS.items() if generator.stages and name != "sagan"]  # nearly sngan


@pytest.mark.usefixtures("zeros_at_first")
@pytest.mark.parametrize("name", STAGED)
def test_rectangles_have_the_stages_of_a_square(name):
    """A map of 4x6 is doubled as often as one of 4x4: the same layers, but for those that know its shape."""

    def shapes(size):
        generator, discriminator = (net(image_size=size, num_classes=3) for net in MODELS[name])
        z, labels, keys = jnp.zeros((2, 8)), jnp.zeros(2, jnp.int32), jax.random.split(jax.random.key(0), 2)

        def both():
            images, g = generator.init_with_output(keys[0], z, labels, train=False, keys=keys)
            _, d = discriminator.init_with_output(keys[0], images, labels, train=False, keys=keys)
            return images, g["params"], d["params"]

        images, *params = jax.eval_shape(both)
        assert images.shape == (2, *generator.image_shape)
        return dict(jax.tree_util.tree_leaves_with_path(params))

    square, tall = shapes(16), shapes((24, 16))
    assert square.keys() == tall.keys()
    other = {path for path in square if square[path].shape != tall[path].shape}
    assert other
    for path in other:
        assert math.prod(tall[path].shape) * 2 == math.prod(square[path].shape) * 3


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (100, 150),
            r"^image_size=\(100, 150\): r3gan works at 8, .*256, and where both sides are one power of two in 2 ",
        ),
        ((16, 1024), r"^image_size=\(16, 1024\): r3gan works at"),
        (2048, r"^image_size=2048: r3gan works at"),
    ],
)
def test_shapes_that_no_stages_make(size, message):
    with pytest.raises(ValueError, match=message):
        r3gan.Generator(image_size=size).widths  # noqa: B018


@pytest.mark.usefixtures("zeros_at_first")
@pytest.mark.parametrize(
    ("name", "size", "square", "base"),
    [
        ("sngan", (48, 80), 64, (3, 5)),  # the last block of D meets a map that has no half
        ("sngan", 96, 64, (6, 6)),  # 3x3 would take a stage more than it has
        ("dcgan", (96, 160), 64, (6, 10)),
        ("biggan", (96, 160), 128, (3, 5)),
        ("stylegan2", 96, 128, (3, 3)),
    ],
)
def test_sizes_take_as_many_stages_as_there_are(name, size, square, base):
    generator, discriminator = (net(image_size=size) for net in MODELS[name])
    assert (generator.square_size, generator.base) == (square, base)

    def logits():
        key = jax.random.key(0)
        images, _ = generator.init_with_output(key, jnp.zeros((2, 8)), None, train=False, keys=jax.random.split(key))
        (logits, _), _ = discriminator.init_with_output(key, images, None, train=False)
        return images, logits

    images, logits = jax.eval_shape(logits)
    assert images.shape == (2, *generator.image_shape)
    assert logits.shape == (2,)
