"""Nets as StudioGAN saves them, of G, its average and D in a file each, by what its configs call the backbone.

Its big_resnet is our biggan, resnet our sngan and sagan, deep_conv our dcgan, stylegan2 ours.
"""

import numpy as np

from jaxgan.conversion import residual, stylegan2
from jaxgan.conversion.layers import Net
from jaxgan.conversion.objects import Arrays, Converted, any_generator
from jaxgan.conversion.state_dicts import generators

LICENCE = "StudioGAN is under the MIT License; the weights are under the terms of whoever trained them"
STYLEGAN2_LICENCE = (
    "StudioGAN is under the MIT License, the code of its StyleGAN2 under the NVIDIA Source Code License, which is not "
    "commercial; the weights are under the terms of whoever trained them"
)
ATTENTION = ("conv1x1_theta", "conv1x1_phi", "conv1x1_g", "conv1x1_attn", "sigma")
NAMES = residual.Names(
    "conv2d1", "conv2d2", "conv2d0", "bn1", "bn2", ATTENTION, "linear0", "conv2d5", "linear1", "embedding"
)
BN_EPS = 1e-4
DCGAN_BN_EPS = 1e-5  # of ours
W_AVG_DECAY = 0.998


def knows(nets: dict[str, Arrays]) -> bool:
    """Returns whether state dicts are those of a generator of this family."""
    g = _any_g(nets)
    return g is not None and (Net(g).has("linear0") or "synthesis.b4.const" in g)


def convert(nets: dict[str, Arrays]) -> Converted:
    """Returns the networks; raises a ValueError where their architecture is none that jaxgan has."""
    arrays = _any_g(nets)
    if "synthesis.b4.const" in arrays:
        make = _stylegan2
    elif Net(arrays).has("blocks.0.0.deconv0"):
        make = _deep_conv
    elif Net(arrays).has("blocks.0.0.conv2d1"):
        make = _resnet
    else:
        raise ValueError("its G has a backbone that jaxgan does not have")
    return make(nets, Net(arrays))


def _any_g(nets: dict[str, Arrays]) -> Arrays | None:
    return nets.get("G_ema", nets.get("G"))


def _converted(licence, settings, size, classes, variables, *pixels: str) -> Converted:
    """Returns what is converted; `pixels` is the way to the last layer of G, which has a bias for each channel."""
    layer = any_generator(variables)["params"]
    for name in pixels:
        layer = layer[name]
    return Converted("StudioGAN", licence, settings, size, len(layer["bias"]), classes, variables)


# resnet and big_resnet


def _resnet(nets: dict[str, Arrays], g: Net) -> Converted:
    blocks, attended, _ = _blocks(g)
    size, z_dim = 4 << len(blocks), g.shape("linear0")[1]
    gain = g.shape("blocks.0.0.bn1.gain")[1] if g.has("blocks.0.0.bn1.gain") else 0
    big = g.has("shared") or gain == z_dim  # without classes, each block has a chunk of z alone, as wide as the first
    if big:
        classes, shared_dim = g.shape("shared") if g.has("shared") else (0, None)
        settings = {"model.name": "biggan", "model.z_dim": z_dim * (len(blocks) + 1), "model.g.shared_dim": shared_dim}
        if not g.is_spectral("linear0"):
            raise ValueError("its G is a big_resnet without spectral norm; jaxgan's biggan has it on all weights")
    else:
        classes = gain
        settings = {"model.name": "sagan" if g.is_spectral("linear0") else "sngan", "model.z_dim": z_dim}
    settings |= residual.generator_settings(g, NAMES, blocks, attended) | {"model.g.bn_eps": BN_EPS}
    variables = generators(nets, lambda arrays: _resnet_generator(Net(arrays), big, classes))
    if "D" in nets:
        d = Net(nets["D"])
        settings |= _d_settings(d, size, big, classes)
        blocks, _, attention = _blocks(d)
        if settings["model.conditioning"] == "ac":
            d.dense("classifier", "linear2", bias=False)
            d.put("classifier/bias", np.zeros(classes, np.float32))
        variables["d"] = residual.discriminator(d, NAMES, blocks, attention)
    return _converted(LICENCE, settings, size, classes, variables, "pixels")


def _d_settings(d: Net, size: int, big: bool, classes: int) -> dict:
    """Returns the settings of D; a ValueError says why jaxgan has none like it."""
    blocks, attended, _ = _blocks(d)
    if not d.is_spectral("blocks.0.0.conv2d1"):
        raise ValueError("its D has batch norm in place of spectral norm; jaxgan's has not")
    if not big and size != 32:
        raise ValueError(f"its D halves {size} pixels less often, and widens earlier, than jaxgan's sngan and sagan")
    if "linear2.bias" in d.arrays:
        raise ValueError("its D embeds images with a bias (2C or D2DCE); jaxgan's has none")
    conditioning = "ac" if d.has("linear2") else "projection"
    if classes and conditioning == "projection" and not d.has("embedding"):
        raise ValueError("its D has classes in its logits (MH or MD), or none at all; jaxgan's has not")
    settings = residual.discriminator_settings(d, NAMES, blocks, attended, size)
    return settings | {"model.d.relu_skips": True, "model.conditioning": conditioning}


def _blocks(net: Net) -> tuple[list[str], int | None, str | None]:
    """Returns the prefixes of the blocks, and the number of the block before the first attention and its prefix."""
    blocks, attended, prefix, i = [], None, None, 0
    while True:
        if net.has(f"blocks.{i}.0.conv2d1"):
            blocks.append(f"blocks.{i}.0")
        elif net.has(f"blocks.{i}.0.{ATTENTION[0]}"):
            attended, prefix = (attended, prefix) if prefix else (len(blocks) - 1, f"blocks.{i}.0")
        else:
            return blocks, attended, prefix
        i += 1


def _resnet_generator(net: Net, big: bool, classes: int) -> dict:
    blocks, _, attention = _blocks(net)

    def norm(ours, theirs):
        if big:
            net.norm(ours, f"{theirs}.bn", scale=None)
            for what in ("gain", "bias"):
                net.dense(f"{what}_{ours.removeprefix('norm_')}", f"{theirs}.{what}", bias=False)
        else:
            _class_norm(net, ours, theirs, classes)

    if net.has("shared"):
        net.table("classes", "shared")
    last = "norm" if big else "norm/norm"
    return residual.generator(net, NAMES, blocks, attention, norm, lambda: net.norm(last, "bn4"))


def _class_norm(net: Net, ours: str, theirs: str, classes: int, more_eps: float = 0.0) -> None:
    """Makes a `jaxgan.models.layers.BatchNorm`."""
    if classes:
        net.norm(f"{ours}/norm", f"{theirs}.bn", scale=None, more_eps=more_eps)
        for what in ("gain", "bias"):
            net.linear_table(f"{ours}/{what}", f"{theirs}.{what}")
    else:
        net.norm(f"{ours}/norm", theirs, more_eps=more_eps)


# deep_conv


def _deep_conv(nets: dict[str, Arrays], g: Net) -> Converted:
    if "D" in nets:
        raise ValueError("its D is a deep_conv with ReLU; jaxgan's dcgan has LeakyReLU")
    n = g.count("blocks.{}.0.deconv0")
    if g.has(f"blocks.1.0.{ATTENTION[0]}") or n != 3:
        raise ValueError(f"its G is a deep_conv of {n} blocks, or has attention; jaxgan's dcgan has 3 at 32 pixels")
    classes = g.shape("blocks.0.0.bn0.gain")[1] if g.has("blocks.0.0.bn0.gain") else 0
    shapes = [g.shape(f"blocks.{i}.0.deconv0") for i in range(n)]
    settings = {"model.name": "dcgan", "model.z_dim": g.shape("linear0")[1]}
    settings["model.g.channels"] = (shapes[0][0], *(outputs for _, outputs, *_ in shapes))

    def generator(arrays):
        net = Net(arrays)
        net.dense("dense", "linear0", pixels=16)
        for i in range(n):
            net.deconv(f"deconv_{i}", f"blocks.{i}.0.deconv0")
            _class_norm(net, f"norm_{i}", f"blocks.{i}.0.bn0", classes, more_eps=BN_EPS - DCGAN_BN_EPS)
        net.conv("pixels", "conv4")
        return net.variables()

    variables = generators(nets, generator)
    return _converted(LICENCE, settings, 4 << n, classes, variables, "pixels")


# stylegan2


def _stylegan2(nets: dict[str, Arrays], g: Net) -> Converted:
    if "D" in nets:
        raise ValueError("the file of its D does not say in groups of how many images it takes standard deviations")
    stylegan2.require_skip(g.arrays)
    sizes, classes = stylegan2.g_sizes(g.arrays), stylegan2.g_classes(g.arrays)
    settings = stylegan2.g_settings(g.arrays) | {"model.g.w_avg_decay": W_AVG_DECAY}
    variables = generators(nets, lambda arrays: stylegan2.g_variables(arrays, sizes))
    return _converted(STYLEGAN2_LICENCE, settings, sizes[-1], classes, variables, "synthesis_net", "to_rgb_0")
