"""SNGAN, cGAN-PD and SAGAN as mimicry saves them, G and D in a file each.

Its ReLU in place makes the skips of D take ReLU(x), and its G enlarges maps by bilinear interpolation.
"""

import numpy as np

from jaxgan.conversion import residual
from jaxgan.conversion.layers import Net
from jaxgan.conversion.objects import Arrays, Converted

LICENCE = "mimicry is under the MIT License; the weights are under the terms of whoever trained them"
NAMES = residual.Names("c1", "c2", "c_sc", "b1", "b2", ("theta", "phi", "g", "o", "gamma"), "l1", "", "", "l_y")
ASSUMED = "G ends in tanh; the file of DCGANGeneratorCIFAR, which ends in a sigmoid, looks the same"
ATTENDED = 1  # the number of the block before the attention, in SAGAN's G and D of 32 pixels


def knows(nets: dict[str, Arrays]) -> bool:
    """Returns whether state dicts are those of a generator of this family."""
    return "G" in nets and Net(nets["G"]).has("l1") and Net(nets["G"]).has("block2.c1")


def convert(nets: dict[str, Arrays]) -> Converted:
    """Returns the networks; raises a ValueError where their architecture is none that jaxgan has."""
    g = Net(nets["G"])
    blocks, attended = _blocks(g, 2), ATTENDED if g.has("attn_block.theta") else None
    size = 4 << len(blocks)
    settings = {"model.name": "sngan", "model.z_dim": g.shape("l1")[1], "model.g.bilinear": True}
    settings |= residual.generator_settings(g, NAMES, blocks, attended)
    if g.is_spectral("l1"):
        settings |= {"model.name": "sagan", "model.g.spectral_tables": False, "model.g.bn_eps": 1e-5}
    table = "block2.b1.embed"
    classes = g.shape(table)[0] if g.has(table) else 0
    variables = {"g": _generator(g, blocks, classes)}
    if "D" in nets:
        d = Net(nets["D"])
        require_discriminator(d, classes)
        blocks, attended = _blocks(d, 1), ATTENDED if d.has("attn_block.theta") else None
        settings |= residual.discriminator_settings(d, NAMES, blocks, attended, size) | {"model.d.relu_skips": True}
        variables["d"] = residual.discriminator(d, NAMES._replace(logit=f"l{len(blocks) + 1}"), blocks, _attention(d))
    channels = variables["g"]["params"]["pixels"]["bias"].shape[0]
    assumed = "" if classes or "d" in variables else ASSUMED
    return Converted("mimicry", LICENCE, settings, size, channels, classes, variables, assumed=assumed)


def require_discriminator(d: Net, classes: int) -> None:
    """Raises a ValueError for discriminators that are none of SNGAN or cGAN-PD."""
    if not d.has("block1.c1"):
        raise ValueError("its D is InfoMax-GAN's or another that jaxgan does not have")
    if not d.is_spectral("block1.c1"):
        raise ValueError("its D is DCGAN's or WGAN-GP's, and the file does not say which: they pool differently")
    if d.has("l_y") and not classes:
        raise ValueError("its D is SSGAN's, with a classifier of rotations that jaxgan's has not")


def _attention(net: Net) -> str | None:
    return "attn_block" if net.has("attn_block.theta") else None


def _blocks(net: Net, first: int) -> list[str]:
    n = first
    while net.has(f"block{n}.c1"):
        n += 1
    return [f"block{i}" for i in range(first, n)]


def _generator(net: Net, blocks: list[str], classes: int) -> dict:
    def norm(ours, theirs):
        if not classes:
            return net.norm(f"{ours}/norm", theirs)
        net.norm(f"{ours}/norm", f"{theirs}.bn", scale=None)
        gains, biases = np.split(net.arrays.take(f"{theirs}.embed.weight"), 2, axis=1)
        net.put(f"{ours}/gain/embedding", gains - 1)
        net.put(f"{ours}/bias/embedding", biases)

    n = len(blocks) + 2
    names = NAMES._replace(pixels=f"c{n}")
    return residual.generator(net, names, blocks, _attention(net), norm, lambda: net.norm("norm/norm", f"b{n}"))
