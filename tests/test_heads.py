"""How discriminators end: the direction of SAN, the projection, and what they say of classes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import MODELS
from jaxgan.models.layers import BaseDiscriminator, spectral_norm

LABELS = jnp.array([0, 2, 1, 2])


class Linear(BaseDiscriminator):
    """The smallest discriminator: its images are its features."""

    @nn.compact
    def __call__(self, images, labels, train=True, keys=None):
        return self.head(images, labels, nn.initializers.normal(1.0))


def linear(**fields):
    d, h = Linear(num_classes=3, **fields), jax.random.normal(jax.random.key(1), (4, 5))
    variables = d.init(jax.random.key(0), h, LABELS)
    assert set(variables) == {"params"}
    return (lambda params, h: d.apply({"params": params}, h, LABELS)), variables["params"], h


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_direction_of_san_has_norm_1_and_is_that_of_the_projected_class(scale):
    apply, params, h = linear(san=True)
    w = params["logit"]["kernel"][:, 0] + params["classes"]["embedding"][LABELS]
    params = jax.tree.map(lambda x: scale * x, params)
    omega = jax.grad(lambda h: jnp.sum(apply(params, h)[0]))(h)
    np.testing.assert_allclose(jnp.linalg.norm(omega, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(omega, w / jnp.linalg.norm(w, axis=-1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_projection_in_closed_form():
    apply, params, h = linear()
    params["logit"]["bias"] += 2.0
    w = params["logit"]["kernel"][:, 0] + params["classes"]["embedding"][LABELS]
    logits, outputs = apply(params, h)
    np.testing.assert_allclose(logits, jnp.sum(w * h, axis=-1) + 2.0, rtol=1e-5)
    assert list(outputs) == ["features"]
    np.testing.assert_array_equal(outputs["features"], h)


def test_gradients_of_san_in_closed_form():
    """The logit <omega, h> has the gradient omega by h; the direction term, by w, h without its part along omega."""
    apply, params, h = linear(san=True, conditioning="ac")  # without a projection there is one direction
    w = params["logit"]["kernel"][:, 0]
    omega = w / jnp.linalg.norm(w)
    by_logits = jax.grad(lambda p, h: jnp.sum(apply(p, h)[0]), argnums=(0, 1))(params, h)
    by_direction = jax.grad(lambda p, h: jnp.sum(apply(p, h)[1]["direction"]), argnums=(0, 1))(params, h)
    assert not by_logits[0]["logit"]["kernel"].any()
    assert by_logits[0]["logit"]["bias"] == len(h)
    np.testing.assert_allclose(by_logits[1], jnp.broadcast_to(omega, h.shape), rtol=1e-5)
    assert not by_direction[1].any()
    total = h.sum(axis=0)
    expected = (total - omega * (omega @ total)) / jnp.linalg.norm(w)
    np.testing.assert_allclose(by_direction[0]["logit"]["kernel"][:, 0], expected, rtol=1e-4, atol=1e-6)


def test_parameter_counts_of_conditionings():
    """Beside the 1,053,825 of SNGAN's D: K (F + 1) of a classifier, K F of the projection, (F + K) E of embeddings."""
    for conditioning, more in {"ac": 1290, "multi_hinge": 1290 + 1280, "d2dce": (128 + 10) * 512}.items():
        d = MODELS["sngan"][1](num_classes=10, conditioning=conditioning)
        images, labels = jnp.zeros((1, 32, 32, 3)), jnp.zeros(1, int)
        variables = jax.eval_shape(lambda d=d, x=images, y=labels: d.init(jax.random.key(0), x, y, False))
        assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 1_053_825 + more


def test_outputs_of_conditionings():
    apply, params, h = linear(conditioning="multi_hinge")
    outputs = apply(params, h)[1]
    assert set(outputs) == {"features", "classes"}
    np.testing.assert_allclose(outputs["classes"], h @ params["classifier"]["kernel"], rtol=1e-5, atol=1e-5)
    apply, params, h = linear(conditioning="d2dce", embed_dim=7)
    logits, outputs = apply(params, h)
    np.testing.assert_allclose(logits, h @ params["logit"]["kernel"][:, 0], rtol=1e-4, atol=1e-5)  # labels do not act
    assert set(outputs) == {"features", "embedding", "proxy"}
    assert outputs["embedding"].shape == outputs["proxy"].shape == (4, 7)
    for name in ("embedding", "proxy"):
        np.testing.assert_allclose(jnp.linalg.norm(outputs[name], axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(outputs["proxy"][1], outputs["proxy"][3])
    assert not jnp.allclose(outputs["proxy"][0], outputs["proxy"][1])


def test_wrapped_layers():
    """With spectral norm the logit's kernel has norm 1, and the classifier's the largest singular value 1."""

    class Normalised(BaseDiscriminator):
        @nn.compact
        def __call__(self, images, labels, train=True, keys=None):
            return self.head(
                images, labels, nn.initializers.normal(1.0), wrap=lambda layer: spectral_norm(layer, train)
            )

    d, h = Normalised(num_classes=3, conditioning="ac"), jax.random.normal(jax.random.key(1), (4, 5))
    variables = d.init(jax.random.key(0), h, LABELS)
    for _ in range(30):
        variables |= d.apply(variables, h, LABELS, mutable=["batch_stats"])[1]
    logits, outputs = d.apply(variables, h, LABELS, False)
    w, v = (variables["params"][name]["kernel"] for name in ("logit", "classifier"))
    np.testing.assert_allclose(logits, (h @ w / jnp.linalg.norm(w))[:, 0], rtol=1e-4)
    np.testing.assert_allclose(outputs["classes"], h @ v / np.linalg.norm(v, 2), rtol=1e-3, atol=1e-4)
