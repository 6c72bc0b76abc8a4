"""How discriminators end: the direction of SAN, the projection, and what they say of classes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import MODELS
from jaxgan.models.layers import BaseDiscriminator, spectral_norm

LABELS = np.array([0, 2, 1, 2])
H = np.random.default_rng(1).standard_normal((4, 5), np.float32)


class Linear(BaseDiscriminator):
    """The smallest discriminator: its images are its features."""

    @nn.compact
    def __call__(self, images, labels, train=True, keys=None):
        return self.head(images, labels, nn.initializers.normal(1.0))


def linear(**fields):
    d = Linear(num_classes=3, **fields)
    variables = jax.device_get(jax.jit(d.init)(jax.random.key(0), H, LABELS))
    assert set(variables) == {"params"}
    return (lambda params, h: d.apply({"params": params}, h, LABELS)), variables["params"]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_direction_of_san_has_norm_1_and_is_that_of_the_projected_class(scale):
    apply, params = linear(san=True)
    w = params["logit"]["kernel"][:, 0] + params["classes"]["embedding"][LABELS]
    params = jax.tree.map(lambda x: scale * x, params)
    omega = np.asarray(jax.jit(jax.grad(lambda h: jnp.sum(apply(params, h)[0])))(H))
    np.testing.assert_allclose(np.linalg.norm(omega, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(omega, w / np.linalg.norm(w, axis=-1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_projection_in_closed_form():
    apply, params = linear()
    params["logit"]["bias"] = params["logit"]["bias"] + np.float32(2.0)
    w = params["logit"]["kernel"][:, 0] + params["classes"]["embedding"][LABELS]
    logits, outputs = jax.jit(apply)(params, H)
    np.testing.assert_allclose(logits, np.sum(w * H, axis=-1) + 2.0, rtol=1e-5)
    assert list(outputs) == ["features"]
    np.testing.assert_array_equal(outputs["features"], H)


def test_gradients_of_san_in_closed_form():
    """The logit <omega, h> has the gradient omega by h; the direction term, by w, h without its part along omega."""
    apply, params = linear(san=True, conditioning="ac")  # without a projection there is one direction
    w = params["logit"]["kernel"][:, 0]
    omega = w / np.linalg.norm(w)

    def sums(params, h):
        logits, outputs = apply(params, h)
        return jnp.sum(logits), jnp.sum(outputs["direction"])

    by_logits, by_direction = jax.device_get(jax.jit(jax.jacrev(sums, argnums=(0, 1)))(params, H))
    assert not by_logits[0]["logit"]["kernel"].any()
    assert by_logits[0]["logit"]["bias"] == len(H)
    np.testing.assert_allclose(by_logits[1], np.broadcast_to(omega, H.shape), rtol=1e-5)
    assert not by_direction[1].any()
    total = H.sum(axis=0)
    expected = (total - omega * (omega @ total)) / np.linalg.norm(w)
    np.testing.assert_allclose(by_direction[0]["logit"]["kernel"][:, 0], expected, rtol=1e-4, atol=1e-6)


def test_parameter_counts_of_conditionings():
    """Beside the 1,053,825 of SNGAN's D: K (F + 1) of a classifier, K F of the projection, (F + K) E of embeddings."""
    more_parameters = {"ac": 1290, "multi_hinge": 1290 + 1280, "adc": 2 * 1290 + 1280, "d2dce": (128 + 10) * 512}
    for conditioning, more in more_parameters.items():
        d = MODELS["sngan"][1](num_classes=10, conditioning=conditioning)
        images, labels = np.zeros((1, 32, 32, 3), np.float32), np.zeros(1, int)
        variables = jax.eval_shape(lambda d=d, x=images, y=labels: d.init(jax.random.key(0), x, y, False))
        assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 1_053_825 + more


def test_outputs_of_conditionings():
    apply, params = linear(conditioning="multi_hinge")
    outputs = jax.jit(apply)(params, H)[1]
    assert set(outputs) == {"features", "classes"}
    np.testing.assert_allclose(outputs["classes"], H @ params["classifier"]["kernel"], rtol=1e-5, atol=1e-5)
    apply, params = linear(conditioning="d2dce", embed_dim=7)
    logits, outputs = jax.device_get(jax.jit(apply)(params, H))
    np.testing.assert_allclose(logits, H @ params["logit"]["kernel"][:, 0], rtol=1e-4, atol=1e-5)  # labels do not act
    assert set(outputs) == {"features", "embedding", "proxy"}
    assert outputs["embedding"].shape == outputs["proxy"].shape == (4, 7)
    for name in ("embedding", "proxy"):
        np.testing.assert_allclose(np.linalg.norm(outputs[name], axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(outputs["proxy"][1], outputs["proxy"][3])
    assert not np.allclose(outputs["proxy"][0], outputs["proxy"][1])


def test_wrapped_layers():
    """With spectral norm the logit's kernel has norm 1, and the classifier's the largest singular value 1."""

    class Normalised(BaseDiscriminator):
        @nn.compact
        def __call__(self, images, labels, train=True, keys=None):
            return self.head(
                images, labels, nn.initializers.normal(1.0), wrap=lambda layer: spectral_norm(layer, train)
            )

    d = Normalised(num_classes=3, conditioning="ac")

    @jax.jit
    def run():
        start = d.init(jax.random.key(0), H, LABELS)

        def step(_, variables):
            return variables | d.apply(variables, H, LABELS, mutable=["batch_stats"])[1]

        return start["params"], d.apply(jax.lax.fori_loop(0, 30, step, start), H, LABELS, False)

    params, (logits, outputs) = jax.device_get(run())
    w, v = (params[name]["kernel"] for name in ("logit", "classifier"))
    np.testing.assert_allclose(logits, (H @ w / np.linalg.norm(w))[:, 0], rtol=1e-4)
    np.testing.assert_allclose(outputs["classes"], H @ v / np.linalg.norm(v, 2), rtol=1e-3, atol=1e-4)
