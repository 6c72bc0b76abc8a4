"""DINOv2 against golden features and against PIL; tests/golden/dinov2.py made the files."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgan.core import torch_file
from jaxgan.evaluation.networks import dinov2

GOLDEN = pathlib.Path(__file__).parent / "golden"
WEIGHTS = GOLDEN / "dinov2.pth"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "dinov2.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def arrays():
    return torch_file.load(WEIGHTS)


def test_features_of_a_file(golden):
    """The whole way of an image at 224 pixels, for which the 37x37 positions become 16x16."""
    extractor = dinov2.load(str(WEIGHTS))
    features = jax.jit(extractor.apply)(extractor.variables, golden["images"])
    assert list(features) == ["pool"]
    assert features["pool"].dtype == jnp.float32
    np.testing.assert_allclose(features["pool"], golden["pool_224"], atol=1e-4)
    assert extractor.name == "dinov2_2x128"


def test_features_at_the_size_of_the_positions(golden, arrays):
    net, variables = dinov2.from_arrays(arrays, "file")
    pool = jax.jit(net.apply)(variables, dinov2.preprocess(golden["images"], 518))
    np.testing.assert_allclose(pool, golden["pool_518"], atol=1e-4)


def test_products_in_full_float32(golden):
    """On a CPU every product is one of float32; that it stays so elsewhere is only seen in the program."""
    extractor = dinov2.load(str(WEIGHTS))
    program = jax.jit(extractor.apply).lower(extractor.variables, golden["images"]).as_text()
    products = [
        line for line in program.splitlines() if "xf32>" in line and ("dot_general" in line or "convolution" in line)
    ]
    assert len(products) == 1 + 2 + 6  # patches; positions; in the block's program four layers and attention's two
    assert all("HIGHEST" in line and "DEFAULT" not in line for line in products)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("vits14", 22_056_576), ("vitb14", 86_580_480), ("vitl14", 304_368_640)],
)
def test_parameters_of_the_published_sizes(size, parameters):
    """As transformers counts them, with the mask token that only training needs."""
    (shape,) = (shape for shape, name in dinov2.SIZES.items() if name == size)
    image = jax.ShapeDtypeStruct((1, 14, 14, 3), jnp.float32)
    variables = jax.eval_shape(dinov2.DINOv2(*shape).init, jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) + shape[0] == parameters


def test_large_is_the_default():
    assert dinov2.SIZES[dinov2.DINOv2.width, dinov2.DINOv2.depth] == "vitl14"


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, 224), (64, 64, 224), (224, 224, 224), (256, 256, 224), (67, 67, 28), (20, 33, 28), (1, 1, 14)],
)
def test_resize_is_pils(height, width, size):
    """To the bit; black and white as well, so that PIL's clipping between rows and columns shows."""
    noise = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    noise[1] = 255 * (noise[1] > 127)
    expected = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in noise]
    np.testing.assert_array_equal(dinov2.resize(jnp.asarray(noise), size), np.stack(expected))


def test_preprocess_normalises():
    """Black, and white, by ImageNet's mean and deviation."""
    images = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    pixels = np.asarray(dinov2.preprocess(jnp.asarray(images)))
    assert pixels.shape == (2, 224, 224, 3)
    np.testing.assert_allclose(pixels[0, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-6)
    np.testing.assert_allclose(pixels[1, 5, 7], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "match"),
    [(np.zeros((1, 8, 8, 3), np.float32), "float32"), (np.zeros((8, 8, 3), np.uint8), r"\[8, 8, 3\]")],
)
def test_images_must_be_a_batch_of_8_bits(images, match):
    with pytest.raises(ValueError, match=match):
        dinov2.preprocess(jnp.asarray(images))


def test_patches_must_fit(arrays):
    net, variables = dinov2.from_arrays(arrays, "file")
    with pytest.raises(ValueError, match="multiples of 14, not 28x30"):
        net.apply(variables, jnp.zeros((1, 28, 30, 3)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("blocks.1.attn.qkv.bias"), "file .*: blocks.1.attn.qkv.bias is missing$"),
        (lambda a: a.update(register_tokens=np.zeros((1, 4, 128))), "without registers.*: register_tokens is unknown$"),
        (lambda a: a.update({"norm.bias": np.zeros(127)}), r": norm.bias is \[127\]$"),
        (lambda a: a.update(pos_embed=a["pos_embed"][:, :-1]), r"36x36 positions: pos_embed is \[1, 1369, 128\]$"),
        (lambda a: [a.pop(name) for name in list(a) if name.startswith("blocks.0.")], "is missing.* more$"),
        (lambda a: [a.pop(name) for name in list(a) if name.startswith("blocks.")], "needs cls_token.*blocks"),
        (lambda a: a.update(cls_token=np.zeros((1, 1, 100))), "a multiple of 64"),
        (lambda a: a.update(epoch=3), ": epoch is unknown$"),
        (lambda a: a.clear(), "needs cls_token"),
    ],
)
def test_another_file_is_refused(arrays, change, match):
    change(arrays)
    with pytest.raises(ValueError, match=match) as error:
        dinov2.from_arrays(arrays, "file")
    assert "\n" not in str(error.value)


def test_a_file_for_inference_needs_no_mask_token(arrays):
    del arrays["mask_token"]
    dinov2.from_arrays(arrays, "file")
