"""StyleGAN2 as NVIDIA's code for TensorFlow pickles it, with and without ADA: networks of dnnlib, G, D and G's average.

A network has the names of the functions that built it and the settings that it was given, whose defaults are those of
the functions. It has the source of the functions too, which nothing here reads.
"""

import re
import reprlib

import numpy as np

from jaxgan.conversion import stylegan2
from jaxgan.conversion.objects import Arrays, Converted, as_dict, attributes
from jaxgan.core.pickled import Record

NETWORKS = ("dnnlib.tflib.network.Network", "tfutil.Network")  # the latter before StyleGAN
PARTS = ("G", "D", "G_ema")
REFUSED = {
    **dict.fromkeys(("G_paper", "D_paper"), "that of progressive growing (Karras et al. 2018)"),
    **dict.fromkeys(("G_style", "D_basic"), "that of the first StyleGAN"),
    **dict.fromkeys(("G_synthesis_stylegan_revised", "D_stylegan"), "StyleGAN2's with progressive growing"),
}
G, MAPPING, D = ("G_main",), ("G_mapping",), ("D_stylegan2", "D_main")
SYNTHESIS = ("G_synthesis_stylegan2", "G_synthesis")  # the former of each two is that of before ADA
FILTER = [1, 3, 3, 1]
FIXED = {
    **{"nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu", "normalize_latents": True},
    **{"resample_kernel": FILTER, "use_spectral_norm": False, "use_pagan": False, "adaptive_dropout": 0},
}
FREE = {  # what the arrays tell, and what is of training or of how to compute only
    *("resolution", "num_channels", "label_size", "latent_size", "dlatent_size", "architecture", "use_noise"),
    *("mapping_layers", "mapping_fmaps", "label_fmaps", "mapping_lrmul", "dlatent_avg_beta", "dlatent_broadcast"),
    *("fmap_base", "fmap_decay", "fmap_min", "fmap_max", "fmap_const", "mbstd_group_size", "mbstd_num_features"),
    *("truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val", "style_mixing_prob"),
    *("mapping_func", "synthesis_func", "randomize_noise", "structure", "dtype", "num_fp16_res", "conv_clamp"),
    *("fused_modconv", "freeze_layers", "augment_strength", "pagan_num", "pagan_fade", "score_size", "score_max"),
}
UNUSED = re.compile(r"(synthesis/)?(lod|noise\d+)")  # of progressive growing; noise that is drawn anew here
G_NAMES = {
    **{"dlatent_avg": "mapping.w_avg", "mod_weight": "affine.weight", "mod_bias": "affine.bias"},
    **{"mapping/LabelEmbed/": "mapping.embed.", r"mapping/Dense(\d+)/": r"mapping.fc\1."},
    **{"synthesis/4x4/Const/": "synthesis.b4.", "synthesis/4x4/Conv/": "synthesis.b4.conv1."},
    **{r"synthesis/(\d+)x\1/Conv0_up/": r"synthesis.b\1.conv0.", r"synthesis/(\d+)x\1/Conv1/": r"synthesis.b\1.conv1."},
    **{r"synthesis/(\d+)x\1/ToRGB/": r"synthesis.b\1.torgb.", r"synthesis/(\d+)x\1/Skip/": r"synthesis.b\1.skip."},
}
D_NAMES = {
    **{"LabelEmbed/": "mapping.embed.", r"Mapping(\d+)/": r"mapping.fc\1."},
    **{"4x4/Conv/": "b4.conv.", "4x4/Dense0/": "b4.fc.", "Output/": "b4.out."},
    **{r"(\d+)x\1/Conv0/": r"b\1.conv0.", r"(\d+)x\1/Conv1_down/": r"b\1.conv1."},
    **{r"(\d+)x\1/FromRGB/": r"b\1.fromrgb.", r"(\d+)x\1/Skip/": r"b\1.skip."},
}


def by_part(content):
    """Returns {"G", "D", "G_ema": ...} of a tuple of three networks, as this family's files hold, and others as is."""
    named = isinstance(content, tuple) and len(content) == len(PARTS) and all(map(_is_network, content))
    return dict(zip(PARTS, content, strict=True)) if named else content


def knows(content) -> bool:
    """Returns whether a file holds networks of this family, or of those before, which `convert` refuses."""
    return _is_network(as_dict(content).get("G_ema"))


def convert(content: dict) -> Converted:
    """Returns the networks of a file; raises a ValueError where their architecture is none that jaxgan has."""
    variables = {}
    for part in ("G_ema", "G"):
        arrays, given = _generator(content[part], part)
        stylegan2.require_skip(arrays)
        sizes = stylegan2.g_sizes(arrays)
        if part == "G_ema":
            settings, classes = stylegan2.g_settings(arrays), stylegan2.g_classes(arrays)
            decay = given.get("dlatent_avg_beta", 0.995)
            settings["model.g.w_avg_decay"] = 1.0 if decay is None else decay
        variables["ema" if part == "G_ema" else "g"] = stylegan2.g_variables(arrays, sizes)
    if content["D"] is not None:
        arrays, group, channels = _discriminator(content["D"])
        settings |= stylegan2.d_settings(arrays, sizes, group, channels)
        variables["d"] = stylegan2.d_variables(arrays, sizes)
    channels = variables["ema"]["params"]["synthesis_net"]["to_rgb_0"]["bias"].shape[0]
    licence = stylegan2.LICENCE
    return Converted("StyleGAN2 for TensorFlow", licence, settings, sizes[-1], channels, classes, variables)


def _generator(net: Record, what: str) -> tuple[Arrays, dict]:
    """Returns the arrays of a G by their names in PyTorch, and its settings."""
    _require_built_by(net, G, what)
    inner = as_dict(attributes(net).get("components"))
    found, given = _variables(net), {}
    for name, known in {"mapping": MAPPING, "synthesis": SYNTHESIS}.items():
        _require_built_by(inner.get(name), known, f"{what}'s {name}")
        found |= {f"{name}/{key}": array for key, array in _variables(inner[name]).items()}
        given |= _settings(inner[name], what)
    given |= _settings(net, what)
    if "mapping/LabelConcat/weight" in found:
        raise ValueError("its G takes classes as StyleGAN2 does without ADA, which jaxgan's does not")
    stylegan2.require_mapping_rate(given.get("mapping_lrmul", 0.01), what)
    arrays = _renamed(found, G_NAMES)
    for name in arrays:
        if re.fullmatch(r"synthesis\.b\d+\.conv0\.weight", name):  # convolves a map that is enlarged
            arrays[name] = arrays[name][..., ::-1, ::-1]
        if name.endswith("affine.bias"):
            arrays[name] = arrays[name] + 1
    if (const := arrays.get("synthesis.b4.const")) is not None:
        arrays["synthesis.b4.const"] = const[0]
    return Arrays(arrays | {"synthesis.b8.resample_filter": stylegan2.FILTER}, what), given


def _discriminator(net: Record) -> tuple[Arrays, int, int]:
    """Returns the arrays of D by their names in PyTorch, and the groups and maps of its standard deviations."""
    before_ada = _require_built_by(net, D, "D") == D[0]
    given, arrays = _settings(net, "D"), _renamed(_variables(net), D_NAMES)
    if given.get("label_size") and "mapping.embed.weight" not in arrays:
        raise ValueError("its D has a logit for each class, as StyleGAN2 without ADA; jaxgan's has not")
    if "mapping.fc0.weight" in arrays:
        stylegan2.require_mapping_rate(given.get("mapping_lrmul", 0.1), "D")
    group, channels = given.get("mbstd_group_size", 4 if before_ada else None), given.get("mbstd_num_features", 1)
    return Arrays(arrays, "D"), group, 0 if before_ada and group <= 1 else channels


def _is_network(value) -> bool:
    return isinstance(value, Record) and value.name in NETWORKS


def _require_built_by(net, known: tuple[str, ...], what: str) -> str:
    """Returns the name of the function that built a network; a ValueError names one that is not in `known`."""
    name = attributes(net).get("build_func_name")
    if name not in known:
        kind = REFUSED.get(name) if isinstance(name, str) else None
        raise ValueError(f"its {what} is {kind or f'built by {_short(name)}'}, which jaxgan does not have")
    return name


def _settings(net: Record, what: str) -> dict:
    """Returns the settings that a network was given; a ValueError names one that jaxgan's has not."""
    given = as_dict(attributes(net).get("static_kwargs"))
    for name, value in given.items():
        if name not in FREE and not (name in FIXED and np.array_equal(value, FIXED[name])):
            raise ValueError(f"its {what} has the setting {name}={_short(value)}, which jaxgan's net has not")
    return given


def _short(value) -> str:
    return " ".join(reprlib.repr(value).split())


def _variables(net: Record) -> dict[str, np.ndarray]:
    """Returns the variables of a network without those of the networks in it; scalars are numbers in the file."""
    return {name: np.asarray(value, np.float32) for name, value in attributes(net).get("variables", ())}


def _renamed(variables: dict[str, np.ndarray], names: dict[str, str]) -> dict[str, np.ndarray]:
    """Returns arrays by their names in PyTorch, with the axes in the order that they have there."""
    arrays = {}
    for name, array in variables.items():
        if UNUSED.fullmatch(name):
            continue
        for pattern, there in names.items():
            name = re.sub(f"^{pattern}" if pattern.endswith("/") else f"{pattern}$", there, name)
        if name.endswith("weight"):
            array = array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}[array.ndim])
        arrays[name] = array
    return arrays
