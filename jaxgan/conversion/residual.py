"""Residual nets of SNGAN's kind (SNGAN, SAGAN, BigGAN), by the names that a code base gives to their layers."""

from collections.abc import Callable
from typing import NamedTuple

from jaxgan.conversion.layers import Net


class Names(NamedTuple):
    """The names of layers there: in a block, in an attention (and its factor), and in a net."""

    conv_a: str
    conv_b: str
    skip: str
    norm_a: str
    norm_b: str
    attention: tuple[str, ...]
    dense: str
    pixels: str
    logit: str
    classes: str


def generator(net: Net, names: Names, blocks: list[str], attention: str | None, norm: Callable, last: Callable) -> dict:
    """Returns the variables of the generator of sngan, sagan or biggan.

    Args:
      net: the arrays.
      names: of its layers.
      blocks: prefixes of the residual blocks.
      attention: prefix of the attention; None: there is none.
      norm: norm(ours, theirs) makes a batch norm in a block, `last`() the one at the end.
    """
    net.dense("dense", names.dense, pixels=16)
    for i, block in enumerate(blocks):
        norm(f"norm_{i}a", f"{block}.{names.norm_a}")
        norm(f"norm_{i}b", f"{block}.{names.norm_b}")
        net.conv(f"conv_{i}a", f"{block}.{names.conv_a}")
        net.conv(f"conv_{i}b", f"{block}.{names.conv_b}")
        net.conv(f"skip_{i}", f"{block}.{names.skip}")
    if attention:
        net.attention(attention, *names.attention)
    last()
    net.conv("pixels", names.pixels)
    return net.variables()


def discriminator(net: Net, names: Names, blocks: list[str], attention: str | None) -> dict:
    """Returns the variables of the discriminator of sngan, sagan or biggan; see `generator`."""
    for i, block in enumerate(blocks):
        net.conv(f"conv_{i}a", f"{block}.{names.conv_a}")
        net.conv(f"conv_{i}b", f"{block}.{names.conv_b}")
        if net.has(f"{block}.{names.skip}"):
            net.conv(f"skip_{i}", f"{block}.{names.skip}")
    if attention:
        net.attention(attention, *names.attention)
    net.dense("logit", names.logit)
    if net.has(names.classes):
        net.table("classes", names.classes)
    return net.variables()


def generator_settings(net: Net, names: Names, blocks: list[str], attended: int | None) -> dict:
    """Returns the settings of a generator; `attended` is the number of the block before the attention.

    A ValueError says where the map that it begins from is none of 4x4 pixels.
    """
    base = net.shape(f"{blocks[0]}.{names.conv_a}")[1]
    outputs = net.shape(names.dense)[0]
    if outputs != 16 * base:
        raise ValueError(f"its G begins from a map of {outputs / base:g} pixels; jaxgan's from 4x4 = 16")
    return {
        "model.g.channels": (base, *widths(net, names, blocks)),
        "model.g.attention_size": 0 if attended is None else 8 << attended,
    }


def discriminator_settings(net: Net, names: Names, blocks: list[str], attended: int | None, size: int) -> dict:
    """Returns the settings of a discriminator of images of `size` pixels; see `generator_settings`."""
    return {
        "model.d.channels": widths(net, names, blocks),
        "model.d.attention_size": 0 if attended is None else size >> (attended + 1),
    }


def widths(net: Net, names: Names, blocks: list[str]) -> tuple[int, ...]:
    """Returns the channels that each block makes."""
    return tuple(net.shape(f"{block}.{names.conv_b}")[0] for block in blocks)
