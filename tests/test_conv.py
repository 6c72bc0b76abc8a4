"""conv, conv_transpose and their derivatives of first and second order are XLA's, however they are computed."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgan.ops import conv as ops

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def assert_close(actual, wanted, tolerance=1e-5):
    """Relative to the largest entry, leaf by leaf."""
    for a, w in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        assert a.shape == w.shape
        assert a.dtype == w.dtype
        a, w = np.asarray(a, np.float64), np.asarray(w, np.float64)
        assert np.abs(a - w).max() <= tolerance * max(np.abs(w).max(), 1e-30)


def lax_conv(x, kernel, stride=1, padding="SAME", groups=1):
    stride = (stride, stride) if isinstance(stride, int) else stride
    padding = [(padding, padding)] * 2 if isinstance(padding, int) else padding
    return lax.conv_general_dilated(
        x, kernel, stride, padding, dimension_numbers=DIMENSIONS, feature_group_count=groups
    )


def fast(x, kernel, stride=1, padding="SAME", groups=1):
    return ops.conv(x, kernel, stride=stride, padding=padding, groups=groups, impl="fast")


def derivatives(function, x, kernel):
    """Value, gradients of a curved loss, and the gradients of an R1 penalty on it."""

    def loss(x, kernel):
        return jnp.sum(jnp.sin(function(x, kernel).astype(jnp.float32)))

    def penalty(x, kernel):
        return jnp.sum(jnp.square(jax.grad(loss)(x, kernel).astype(jnp.float32)))

    both = jax.grad(loss, (0, 1))(x, kernel), jax.grad(penalty, (0, 1))(x, kernel)
    return function(x, kernel), *both


def assert_same_derivatives(x, kernel, tolerance=1e-5, **options):
    actual = jax.jit(lambda x, k: derivatives(lambda x, k: fast(x, k, **options), x, k))(x, kernel)
    wanted = jax.jit(lambda x, k: derivatives(lambda x, k: lax_conv(x, k, **options), x, k))(x, kernel)
    assert_close(actual, wanted, tolerance)


ASYMMETRIC = ((2, 0), (1, 3))


@pytest.mark.parametrize(
    ("taps", "stride", "padding"),
    [
        *itertools.product([(1, 1), (3, 3), (4, 4), (5, 5)], [1, 2, 3], ["SAME"]),
        *itertools.product([(3, 3), (4, 4)], [1, 2, 3], ["VALID", 1]),
        *itertools.product([(3, 2), (1, 4)], [1, 2, (3, 1)], ["SAME", ASYMMETRIC]),
        ((2, 2), 3, "VALID"),  # rows of x that no output sees
        ((3, 3), 1, ((-1, 2), (0, -1))),  # cropped
    ],
)
def test_matches_lax(taps, stride, padding):
    x, kernel = normal(0, 2, 7, 8, 4), normal(1, *taps, 4, 5)
    assert_same_derivatives(x, kernel, stride=stride, padding=padding)
