"""Counts the floating-point operations of a function, from what it traces to, before any compiler changes it."""

import math

import jax

from jaxgan.ops.conv import primitives
from jaxgan.ops.fir import fir_p


def count(function, *args) -> float:
    """Returns 2 x the multiply-adds of all matrix products, convolutions and filters in function(*args).

    Arguments may be `jax.ShapeDtypeStruct`s. A scan counts as often as it runs, a while loop once, a conditional as its
    dearest branch, a shard_map or pmap for one device. A convolution's padding counts as pixels.
    """
    return _count_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _count_jaxpr(jaxpr) -> float:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation) -> float:
    def shape(variable):
        return variable.aval.shape

    match equation.primitive.name, equation.invars, equation.outvars:
        case "dot_general", [a, _], [out]:
            (contracted, _), _ = equation.params["dimension_numbers"]
            return 2.0 * math.prod(shape(out)) * math.prod(shape(a)[axis] for axis in contracted)
        case (primitives.conv_p.name, [_, kernel], [y]) | (primitives.conv_input_p.name, [y, kernel], _):
            return 2.0 * math.prod(shape(y)) * math.prod(shape(kernel)[:3])
        case primitives.conv_kernel_p.name, [_, y], [kernel]:
            return 2.0 * math.prod(shape(y)) * math.prod(shape(kernel)[:3])
        case fir_p.name, _, [y]:
            params = equation.params
            return 2.0 * math.prod(shape(y)) * len(params["taps"]) / params["up"]
        case "conv_general_dilated", [_, kernel], [y]:
            numbers, dilation = equation.params["dimension_numbers"], equation.params["lhs_dilation"]
            multiply_adds = math.prod(shape(y)) * math.prod(shape(kernel)) / shape(kernel)[numbers.rhs_spec[0]]
            return 2.0 * multiply_adds / math.prod(dilation)
        case "scan", _, _:
            return equation.params["length"] * _count_jaxpr(equation.params["jaxpr"].jaxpr)
        case "cond", _, _:
            return max(_count_jaxpr(branch.jaxpr) for branch in equation.params["branches"])
    inner = [p for v in equation.params.values() for p in (v if isinstance(v, tuple | list) else [v])]
    return sum(_count_jaxpr(getattr(p, "jaxpr", p)) for p in inner if hasattr(getattr(p, "jaxpr", p), "eqns"))
