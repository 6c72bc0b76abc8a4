"""FID's Inception network against torch-fidelity's (golden data), with weights that numpy draws."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.evaluation.networks import inception, weights
from tests.golden.inception import SHRUNK, SIZES, STEP, images, random_arrays
from tests.golden.torch_writer import dumps, legacy_file, storage, tensor

GOLDEN = Path(__file__).parent / "golden" / "inception.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def shapes(golden):
    return json.loads(str(golden["shapes"]))


@pytest.fixture(scope="module")
def arrays(shapes):
    return random_arrays(shapes)


@pytest.mark.parametrize("size", [*SIZES, SHRUNK])
def test_resize_is_tensorflows(golden, size):
    resized = inception.resize(jnp.asarray(images(*size)))
    assert resized.shape == (2, 299, 299, 3)
    assert resized.dtype == jnp.float32
    np.testing.assert_allclose(resized[:, ::STEP, ::STEP], golden[f"resized_{size[0]}"], rtol=0, atol=1e-4)


def test_resize_in_closed_form():
    """Output pixel i is the line through the pixels at position i * n / 299, and constant past the last pixel."""
    ramp = np.broadcast_to(np.arange(23, dtype=np.uint8)[:, None, None] * 5, (1, 23, 7, 3))
    expected = 5 * np.minimum(np.arange(299) * 23 / 299, 22)
    np.testing.assert_allclose(inception.resize(jnp.asarray(ramp))[0, :, 100, 1], expected, atol=1e-4)
    whole = images(299, 299, 1)
    np.testing.assert_array_equal(inception.resize(jnp.asarray(whole)), whole.astype(np.float32))
    with pytest.raises(ValueError, match=r"must be uint8 \[B, H, W, C\], not float32 \[1, 8, 8, 3\]"):
        inception.resize(jnp.zeros((1, 8, 8, 3)))


def test_pools_of_a_naive_loop():
    x = np.abs(np.random.default_rng(0).standard_normal((2, 8, 7, 3))).astype(np.float32)
    for i in range(8):
        for j in range(7):
            window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            np.testing.assert_allclose(inception._mean_pool(jnp.asarray(x))[:, i, j], window.mean((1, 2)), rtol=1e-6)
            np.testing.assert_array_equal(inception._max_pool(jnp.asarray(x), 1, 1)[:, i, j], window.max((1, 2)))
    halved = inception._max_pool(jnp.asarray(x), 2, 0)
    assert halved.shape == (2, 3, 3, 3)
    np.testing.assert_array_equal(halved[:, 2, 1], x[:, 4:7, 2:5].max((1, 2)))


@pytest.mark.slow
def test_features_are_torch_fidelitys(golden, arrays, tmp_path):
    """From the weight file, in the format of PyTorch before 1.6, to the features."""
    tensors, storages = {}, []
    for i, (name, array) in enumerate(arrays.items()):
        kind, strides = {"f": "Float", "i": "Long"}[array.dtype.kind], [s // array.itemsize for s in array.strides]
        store = storage(array.size, f"{i:04}", kind, None)
        tensors[name] = tensor(0, array.shape, tuple(strides), store)
        storages.append(array.size.to_bytes(8, "little") + array.tobytes())
    keys = [f"{i:04}" for i in range(len(arrays))]
    path = legacy_file(tmp_path / "w.pth", dumps(tensors), keys, b"".join(storages))
    network = inception.load(str(path))
    assert (network.name, network.weights) == ("inception", weights.sha256(path))
    assert network.apply is inception.apply
    describe = jax.jit(inception.describe)  # one program for all sizes; `apply` resizes before it
    for size in SIZES:
        features = describe(network.variables, inception.resize(jnp.asarray(images(*size))))
        assert {name: value.shape for name, value in features.items()} == {
            "pool": (2, 2048),
            "spatial": (2, 2023),
            "logits": (2, 1008),
        }
        for name, value in features.items():
            expected = golden[f"{name}_{size[0]}"]
            assert value.dtype == jnp.float32
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4 * expected.std(), err_msg=name)


def test_parameters_are_as_many_as_published():
    """torchvision's Inception-v3 without classifiers has 21,785,568, a gain for each of 17,216 norms included."""
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    params = jax.eval_shape(inception.Inception().init, jax.random.key(0), image)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 21_785_568 - 17_216 + 2048 * 1008


def test_wrong_files_are_one_line(arrays):
    def message(change):
        with pytest.raises(ValueError, match=r"\Aw\.pth does not hold FID's Inception: .*\Z") as caught:
            inception.from_arrays({**arrays, **change}, "w.pth")
        return str(caught.value)

    missing = {name: value for name, value in arrays.items() if name != "Mixed_6d.branch_pool.bn.bias"}
    with pytest.raises(ValueError, match=r"w\.pth does not hold .*: Mixed_6d\.branch_pool\.bn\.bias is missing"):
        inception.from_arrays(missing, "w.pth")
    assert "fc has [2048, 1000]" in message({"fc.weight": np.zeros((1000, 2048), np.float32)})  # torchvision's
    assert "Conv2d_1a_3x3" in message({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 1, 3, 3), np.float32)})
    message({"Conv2d_2a_3x3.conv.weight": "text"})
