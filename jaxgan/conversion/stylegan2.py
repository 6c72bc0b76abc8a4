"""StyleGAN2 as NVIDIA's StyleGAN2-ADA for PyTorch pickles it: G, D and G_ema, modules of its persistence."""

import math

import numpy as np

from jaxgan.conversion.objects import (
    Arrays,
    Converted,
    arrays_of,
    as_dict,
    attributes,
    class_name,
    images_in_training,
    submodule,
)

LICENCE = (
    "weights that NVIDIA published are under the NVIDIA Source Code License, for research or evaluation only and not "
    "commercially; those of others are under the terms of whoever trained them"
)
FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
UNUSED = ("resample_filter", "noise_const")  # constants of the architecture, and noise that is drawn anew here


def knows(content) -> bool:
    """Returns whether a file holds networks of this family, or of StyleGAN3, which `convert` refuses."""
    return class_name(as_dict(content).get("G_ema")) == "Generator"


def convert(content: dict) -> Converted:
    """Returns the networks of a file; raises a ValueError where their architecture is none that jaxgan has."""
    g, d = content["G_ema"], content.get("D")
    arrays = arrays_of(g, "G_ema")
    if "synthesis.b4.const" not in arrays:
        raise ValueError("its G is StyleGAN3's or another that jaxgan does not have")
    sizes = g_sizes(arrays)
    require_architecture(g, arrays, d)
    classes, size = g_classes(arrays), sizes[-1]
    mbstd = attributes(submodule(d, "b4.mbstd"))
    settings = g_settings(arrays) | {"model.g.w_avg_decay": attributes(submodule(g, "mapping")).get("w_avg_beta")}
    variables = {"ema": g_variables(arrays, sizes)}
    if class_name(content.get("G")) == "Generator":
        variables["g"] = g_variables(arrays_of(content["G"], "G"), sizes)
    if class_name(d) == "Discriminator":
        arrays = arrays_of(d, "D")
        settings |= d_settings(arrays, sizes, mbstd.get("group_size"), mbstd.get("num_channels", 0))
        variables["d"] = d_variables(arrays, sizes)
    channels = variables["ema"]["params"]["synthesis_net"]["to_rgb_0"]["bias"].shape[0]
    images = images_in_training(content)
    return Converted("StyleGAN2-ADA for PyTorch", LICENCE, settings, size, channels, classes, variables, images)


def g_sizes(arrays: Arrays) -> list[int]:
    """Returns the resolutions of G, from 4 on."""
    size = 4
    while f"synthesis.b{2 * size}.conv1.weight" in arrays:
        size *= 2
    return [4 << i for i in range(int(math.log2(size)) - 1)]


def g_classes(arrays: Arrays) -> int:
    """Returns the number of classes of G; 0: it has none."""
    return arrays.shape("mapping.embed.weight")[1] if "mapping.embed.weight" in arrays else 0


def g_settings(arrays: Arrays) -> dict:
    """Returns the settings of G that its arrays tell."""
    w_dim, inputs = arrays.shape("mapping.fc0.weight")
    return {
        "model.name": "stylegan2",
        "model.z_dim": inputs - (w_dim if g_classes(arrays) else 0),
        "model.g.channels": tuple(arrays.shape(f"synthesis.b{r}.conv1.weight")[0] for r in g_sizes(arrays)),
        "model.g.w_dim": w_dim,
        "model.g.mapping_layers": arrays.count("mapping.fc{}.weight"),
        "loss": "ns",
    }


def require_skip(arrays: Arrays) -> None:
    """Raises a ValueError unless G sums images of all resolutions and resamples as jaxgan's does."""
    if "synthesis.b8.skip.weight" in arrays or "synthesis.b4.torgb.weight" not in arrays:
        raise ValueError("its G has no sum of images; jaxgan has the architecture skip only")
    blur = arrays.peek("synthesis.b8.resample_filter")
    if blur.shape != FILTER.shape or not np.allclose(blur, FILTER, atol=1e-6):
        raise ValueError("it resamples with another filter than 1, 3, 3, 1")


def require_architecture(g, arrays: Arrays, d) -> None:
    """Raises a ValueError for variants of the nets that jaxgan does not have."""
    require_skip(arrays)
    for what, net in {"G_ema": g, "D": d}.items():
        layer = submodule(net, "mapping.fc0")
        if what == "G_ema" or layer is not None:
            require_mapping_rate(attributes(layer).get("bias_gain"), what)
    if not isinstance(decay := attributes(submodule(g, "mapping")).get("w_avg_beta"), float):
        raise ValueError(f"its average of styles has the decay {decay}")


def require_mapping_rate(rate, what: str) -> None:
    """Raises a ValueError unless a mapping network learns as fast as jaxgan's."""
    if not isinstance(rate, float) or not math.isclose(rate, 0.01):
        raise ValueError(f"{what}'s mapping network learns {rate} times as fast as the rest; jaxgan's 0.01 times")


def mapping(arrays: Arrays, prefix: str) -> dict:
    """Returns the parameters of a mapping network; layers in the order in which they are there."""
    params = {"classes": arrays.dense(f"{prefix}.embed")} if f"{prefix}.embed.weight" in arrays else {}
    layers = arrays.count(prefix + ".fc{}.weight")
    return params | {f"dense_{i}": arrays.dense(f"{prefix}.fc{i}") for i in range(layers)}


def g_variables(arrays: Arrays, sizes: list[int]) -> dict:
    """Returns the variables of `jaxgan.models.stylegan2.Generator`."""
    body = {"const": arrays.take("synthesis.b4.const", (1, 2, 0))}
    for i, size in enumerate(sizes):
        block = f"synthesis.b{size}"
        for ours, theirs in (("a", "conv0"), ("b", "conv1"))[i == 0 :]:
            layer = f"{block}.{theirs}"
            strength = f"{layer}.noise_strength"
            body[f"conv_{i}{ours}"] = {
                "kernel": arrays.kernel(f"{layer}.weight"),
                "bias": arrays.take(f"{layer}.bias"),
                "noise": arrays.take(strength) if strength in arrays else np.zeros((), np.float32),
                "style": arrays.dense(f"{layer}.affine"),
            }
        body[f"to_rgb_{i}"] = {
            "kernel": arrays.kernel(f"{block}.torgb.weight"),
            "bias": arrays.take(f"{block}.torgb.bias"),
            "style": arrays.dense(f"{block}.torgb.affine"),
        }
    variables = {
        "params": {"mapping_net": mapping(arrays, "mapping"), "synthesis_net": body},
        "w_avg": {"mean": arrays.take("mapping.w_avg")},
    }
    arrays.require_empty(UNUSED)
    return variables


def d_settings(arrays: Arrays, sizes: list[int], group_size: int | None, group_channels: int) -> dict:
    """Returns the settings of D that its arrays tell, and those of its standard deviations; group None: the batch."""
    if "b4.fromrgb.weight" in arrays:
        raise ValueError("its D has the architecture skip; jaxgan has orig and resnet")
    has_classes = "mapping.embed.weight" in arrays
    return {
        "model.d.channels": tuple(d_width(arrays, r) for r in reversed(sizes)),
        "model.d.architecture": "resnet" if f"b{sizes[-1]}.skip.weight" in arrays else "orig",
        "model.d.mapping_layers": arrays.count("mapping.fc{}.weight") if has_classes else None,
        "model.d.group_size": int(group_size or 2**20),
        "model.d.group_channels": int(group_channels),
    }


def d_width(arrays: Arrays, size: int) -> int:
    """Returns the channels that D has at a resolution, into its first convolution there."""
    return arrays.shape("b4.conv.weight" if size == 4 else f"b{size}.conv0.weight")[0]


def d_variables(arrays: Arrays, sizes: list[int]) -> dict:
    """Returns the variables of `jaxgan.models.stylegan2.Discriminator`."""

    def conv(name):
        return {"kernel": arrays.kernel(f"{name}.weight"), "bias": arrays.take(f"{name}.bias")}

    params = {"from_rgb": conv(f"b{sizes[-1]}.fromrgb")}
    for i, size in enumerate(sizes[:0:-1]):
        params[f"conv_{i}a"], params[f"conv_{i}b"] = conv(f"b{size}.conv0"), conv(f"b{size}.conv1")
        if f"b{size}.skip.weight" in arrays:
            params[f"skip_{i}"] = arrays.kernel(f"b{size}.skip.weight")
    params["conv"] = conv("b4.conv")
    # The features are flattened as [C, 4, 4] there and as [4, 4, C] here.
    dense = arrays.dense("b4.fc")
    inputs, width = dense["kernel"].shape
    dense["kernel"] = dense["kernel"].reshape(inputs // 16, 4, 4, width).transpose(1, 2, 0, 3).reshape(inputs, width)
    params["dense"] = dense
    if classes := mapping(arrays, "mapping"):
        params |= {"features": arrays.dense("b4.out"), "mapping": classes}
    else:
        params["logit"] = arrays.dense("b4.out")
    arrays.require_empty(UNUSED)
    return {"params": params}
