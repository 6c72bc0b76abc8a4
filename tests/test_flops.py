"""Floating-point operations counted, against arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgan.ops import flops
from jaxgan.ops.conv import conv, conv_transpose

X, KERNEL = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 3, 10))  # two groups
ONE = 2 * (2 * 4 * 4 * 10) * (3 * 3 * 3)  # of a convolution with stride 2: an output pixel meets 3 x 3 x 3


def strided(x, kernel):
    return conv(x, kernel, stride=2, groups=2)


def by_xla(x, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=dimensions, feature_group_count=2)


@pytest.mark.parametrize("convolve", [strided, by_xla])
def test_convolutions(convolve):
    assert flops.count(convolve, X, KERNEL) == ONE


def test_both_gradients_cost_as_much_as_the_convolution_each():
    def loss(x, kernel):
        return jnp.sum(strided(x, kernel) ** 2)

    assert flops.count(jax.grad(loss, argnums=(0, 1)), X, KERNEL) == 3 * ONE


def test_a_transposed_convolution_counts_its_small_side():
    kernel = jnp.zeros((4, 4, 6, 5))
    assert flops.count(lambda x: conv_transpose(x, kernel, stride=2), X) == 2 * (2 * 8 * 8) * 4 * 4 * 6 * 5


def test_products_loops_and_branches():
    a, b = jnp.zeros((3, 4, 5)), jnp.zeros((3, 5, 6))
    product = 2 * 3 * 4 * 6 * 5
    assert flops.count(jnp.matmul, a, b) == product

    def loop(b):
        return lax.scan(lambda carry, _: (carry @ b[0, :, :5], None), a[0], None, length=7)[0]

    assert flops.count(jax.jit(loop), b) == 7 * 2 * 4 * 5 * 5
    assert flops.count(lambda x: lax.while_loop(jnp.any, lambda x: x @ x, x), jnp.zeros((5, 5))) == 2 * 5**3
    assert flops.count(lambda x: lax.cond(x[0, 0, 0] > 0, lambda: a, lambda: a @ b @ b.mT), a) == 2 * product
    assert flops.count(lambda x: x + 1, a) == 0


def test_functions_with_derivatives_of_their_own():
    """The derivative that is defined counts, where there is one, and not that of the function."""
    a, b = jnp.zeros((4, 5)), jnp.zeros((5, 6))
    product = 2 * 4 * 6 * 5
    with_jvp, with_vjp = jax.custom_jvp(jnp.matmul), jax.custom_vjp(jnp.matmul)
    with_jvp.defjvp(lambda primals, tangents: (primals[0] @ primals[1], tangents[0] @ primals[1]))
    with_vjp.defvjp(lambda a, b: (a @ b, b), lambda b, g: (g @ b.T, jnp.zeros_like(b)))
    for function in (with_jvp, with_vjp):
        assert flops.count(function, a, b) == product
        assert flops.count(jax.grad(lambda a, function=function: jnp.sum(function(a, b) ** 2)), a) == 2 * product


def test_of_several_devices_one_counts():
    a, b = jnp.zeros((2, 4, 5)), jnp.zeros((2, 5, 6))
    mesh = Mesh(np.array(jax.devices()[:2]), ("i",))
    halves = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(P("i"), P("i")), out_specs=P("i"))
    for function in (jax.pmap(jnp.matmul), jax.jit(halves)):
        assert flops.count(function, a, b) == 2 * 4 * 6 * 5
