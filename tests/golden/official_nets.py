"""Writes tiny files of networks as StyleGAN2-ADA for PyTorch and TensorFlow and R3GAN pickle them, without their code.

The weights are a function of their names. official_nets.npz has what the official code makes of them:

    python tests/golden/official_nets.py STYLEGAN2_ADA_PYTORCH R3GAN

The two are clones of the official repositories, of which the former reads the files for TensorFlow too; this needs
PyTorch, and the test, which compares, does not.
"""

import importlib
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_suffix(".npz")
SIZES, WIDTH, LATENT, CLASSES = (4, 8, 16), 8, 16, 3
TAPS = np.float32(np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64)


def stylegan2_shapes() -> dict[str, dict[str, tuple]]:
    """Returns the names and shapes of the official G and D: 16 pixels, three classes, residual D."""
    g = {"mapping.embed.weight": (LATENT, CLASSES), "mapping.embed.bias": (LATENT,), "mapping.w_avg": (LATENT,)}
    for i, inputs in enumerate((2 * LATENT, LATENT)):
        g |= {f"mapping.fc{i}.weight": (LATENT, inputs), f"mapping.fc{i}.bias": (LATENT,)}
    d = {"b16.fromrgb.weight": (WIDTH, 3, 1, 1), "b16.fromrgb.bias": (WIDTH,)}
    conv = (WIDTH, WIDTH, 3, 3)
    for size in SIZES:
        block = f"synthesis.b{size}"
        g |= {f"{block}.const": (WIDTH, 4, 4)} if size == 4 else {}
        for name in ("conv0", "conv1")[size == 4 :]:
            layer = f"{block}.{name}"
            g |= {f"{layer}.weight": conv, f"{layer}.bias": (WIDTH,), f"{layer}.noise_strength": ()}
            g |= {f"{layer}.noise_const": (size, size), f"{layer}.resample_filter": (4, 4)}
            g |= {f"{layer}.affine.weight": (WIDTH, LATENT), f"{layer}.affine.bias": (WIDTH,)}
        g |= {f"{block}.resample_filter": (4, 4)}
        g |= {f"{block}.torgb.weight": (3, WIDTH, 1, 1), f"{block}.torgb.bias": (3,)}
        g |= {f"{block}.torgb.affine.weight": (WIDTH, LATENT), f"{block}.torgb.affine.bias": (WIDTH,)}
        if size > 4:
            for name in ("conv0", "conv1"):
                d |= {f"b{size}.{name}.weight": conv, f"b{size}.{name}.bias": (WIDTH,)}
            d |= {f"b{size}.skip.weight": (WIDTH, WIDTH, 1, 1)}
    d |= {"b4.conv.weight": (WIDTH, WIDTH + 1, 3, 3), "b4.conv.bias": (WIDTH,)}
    d |= {"b4.fc.weight": (WIDTH, 16 * WIDTH), "b4.out.weight": (WIDTH, WIDTH)}
    d |= {"b4.fc.bias": (WIDTH,), "b4.out.bias": (WIDTH,)}
    d |= {"mapping.embed.weight": (WIDTH, CLASSES), "mapping.embed.bias": (WIDTH,)}
    for i in range(8):
        d |= {f"mapping.fc{i}.weight": (WIDTH, WIDTH), f"mapping.fc{i}.bias": (WIDTH,)}
    return {"G": g, "D": d}


def stylegan2_tf_shapes() -> dict[str, dict[str, tuple]]:
    """Returns the same nets as the code for TensorFlow names them, D without dense layers for its classes."""
    g = {"dlatent_avg": (LATENT,), "mapping/LabelEmbed/weight": (CLASSES, LATENT), "mapping/LabelEmbed/bias": (LATENT,)}
    for i, inputs in enumerate((2 * LATENT, LATENT)):
        g |= {f"mapping/Dense{i}/weight": (inputs, LATENT), f"mapping/Dense{i}/bias": (LATENT,)}
    d = {"LabelEmbed/weight": (CLASSES, WIDTH), "LabelEmbed/bias": (WIDTH,)}
    d |= {"16x16/FromRGB/weight": (1, 1, 3, WIDTH), "16x16/FromRGB/bias": (WIDTH,)}
    g |= {"synthesis/4x4/Const/const": (1, WIDTH, 4, 4)}
    g |= {f"synthesis/noise{i}": (1, 1, size, size) for i, size in enumerate((4, 8, 8, 16, 16))}
    for size in SIZES:
        scope, conv = f"{size}x{size}", (3, 3, WIDTH, WIDTH)
        for name in ("Conv0_up", "Conv1", "ToRGB") if size > 4 else ("Conv", "ToRGB"):
            layer, colours = f"synthesis/{scope}/{name}", name == "ToRGB"
            g |= {f"{layer}/weight": (1, 1, WIDTH, 3) if colours else conv, f"{layer}/bias": (3 if colours else WIDTH,)}
            g |= {f"{layer}/mod_weight": (LATENT, WIDTH), f"{layer}/mod_bias": (WIDTH,)}
            g |= {} if colours else {f"{layer}/noise_strength": ()}
        if size > 4:
            for name in ("Conv0", "Conv1_down"):
                d |= {f"{scope}/{name}/weight": conv, f"{scope}/{name}/bias": (WIDTH,)}
            d |= {f"{scope}/Skip/weight": (1, 1, WIDTH, WIDTH)}
    d |= {"4x4/Conv/weight": (3, 3, WIDTH + 1, WIDTH), "4x4/Conv/bias": (WIDTH,)}
    d |= {"4x4/Dense0/weight": (16 * WIDTH, WIDTH), "4x4/Dense0/bias": (WIDTH,)}
    return {"G": g, "D": d | {"Output/weight": (WIDTH, WIDTH), "Output/bias": (WIDTH,)}}


def r3gan_shapes() -> dict[str, dict[str, tuple]]:
    """Returns the names and shapes of the official G and D: 8 pixels, three classes, widths of 16 and 8."""
    wide, narrow, group = 16, 8, 4

    def block(name, width):
        hidden = 2 * width
        return {
            f"{name}.LinearLayer1.Layer.weight": (hidden, width, 1, 1),
            f"{name}.LinearLayer2.Layer.weight": (hidden, group, 3, 3),
            f"{name}.LinearLayer3.Layer.weight": (width, hidden, 1, 1),
            f"{name}.NonLinearity1.Bias": (hidden,),
            f"{name}.NonLinearity2.Bias": (hidden,),
        }

    first, second = "Model.MainLayers.0.Layers", "Model.MainLayers.1.Layers"
    g = {f"{first}.0.Basis": (wide, 4, 4), f"{first}.0.LinearLayer.weight": (wide, 2 * LATENT)}
    g |= block(f"{first}.1", wide) | {f"{second}.0.LinearLayer.Layer.weight": (narrow, wide, 1, 1)}
    g |= {f"{second}.0.Resampler.Kernel": (4, 4)} | block(f"{second}.1", narrow)
    g |= {"Model.AggregationLayer.Layer.weight": (3, narrow, 1, 1), "Model.EmbeddingLayer.weight": (LATENT, CLASSES)}
    d = {"Model.ExtractionLayer.Layer.weight": (narrow, 3, 1, 1)} | block(f"{first}.0", narrow)
    d |= {f"{first}.1.Resampler.Kernel": (4, 4), f"{first}.1.LinearLayer.Layer.weight": (wide, narrow, 1, 1)}
    d |= block(f"{second}.0", wide) | {f"{second}.1.Basis.weight": (wide, 1, 4, 4)}
    d |= {f"{second}.1.LinearLayer.weight": (wide, wide), "Model.EmbeddingLayer.weight": (wide, CLASSES)}
    return {"G": g, "D": d}


def weights(shapes: dict[str, tuple], net: str) -> dict[str, np.ndarray]:
    """Returns normal numbers of a size that keeps activations moderate; filters are what they have to be."""

    def make(name, shape):
        if name.endswith(("resample_filter", "Kernel")):
            return TAPS
        draw = np.random.default_rng(zlib.crc32(f"{net}.{name}".encode()))
        plain = name.startswith("Model.") and len(shape) > 1 and "Basis" not in name
        scale = 1 / np.sqrt(np.prod(shape[1:])) if plain else 0.5 if len(shape) < 2 else 1.0
        scale *= 100 if name.startswith(("mapping.fc", "mapping/Dense")) else 1  # multiplied by 0.01 in use
        return np.asarray(draw.normal(size=shape) * scale, np.float32)

    return {name: make(name, shape) for name, shape in shapes.items()}


def inputs(size: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    images = draw.uniform(-1, 1, (4, 3, size, size))
    return {"z": np.float32(draw.normal(size=(4, LATENT))), "x": np.float32(images), "labels": np.arange(4) % CLASSES}


def content(family: str, module, tensor) -> dict:
    """Returns what a file of a family holds, to be pickled.

    Args:
      family: "stylegan2" or "r3gan".
      module: (class, {"_parameters": ..., "_buffers": ..., "_modules": ...} and other attributes) -> an object.
      tensor: (array, is_parameter) -> an object.
    """
    shapes = {"stylegan2": stylegan2_shapes, "r3gan": r3gan_shapes}[family]()
    extra = {"mapping": {"w_avg_beta": 0.99}, "mapping.fc0": {"bias_gain": 0.01}}
    extra |= {"b4.mbstd": {"group_size": 4, "num_channels": 1}}

    def build(kind, arrays, path=""):
        rest = [name.removeprefix(path) for name in arrays if name.startswith(path)]
        heads = dict.fromkeys(name.partition(".")[0] for name in rest if "." in name)
        inner = {head: build(f"modules.{head}", arrays, f"{path}{head}.") for head in heads}
        if f"{path}mbstd" == "b4.mbstd" and family == "stylegan2" and "b4.conv.weight" in arrays:
            inner["mbstd"] = module("modules.MinibatchStdLayer", parts({}, {}, {}) | extra["b4.mbstd"])
        own = {n.removeprefix(path): a for n, a in arrays.items() if n.startswith(path) and "." not in n[len(path) :]}
        constant = ("resample_filter", "noise_const", "w_avg", "Kernel")
        buffers = {name: tensor(array, False) for name, array in own.items() if name in constant}
        parameters = {name: tensor(array, True) for name, array in own.items() if name not in constant}
        return module(kind, parts(parameters, buffers, inner) | extra.get(path.rstrip("."), {}))

    def parts(parameters, buffers, modules):
        return {"training": False, "_parameters": parameters, "_buffers": buffers, "_modules": modules}

    names = {"stylegan2": ("Generator", "Discriminator")}.get(
        family, ("training.networks.Generator", "training.networks.Discriminator")
    )
    return {
        "training_set_kwargs": {"class_name": "training.dataset.ImageFolderDataset", "max_size": 300},
        "G": build(names[0], weights(shapes["G"], "G")),
        "D": build(names[1], weights(shapes["D"], "D")),
        "G_ema": build(names[0], weights(shapes["G"], "G_ema")),
    }


def tf_content(network) -> tuple:
    """Returns what a file of StyleGAN2-ADA for TensorFlow holds, to be pickled; network: state -> an object."""
    shapes = stylegan2_tf_shapes()
    given = {"num_channels": 3, "resolution": SIZES[-1], "label_size": CLASSES, "fmap_max": WIDTH}

    def build(name, function, settings, arrays, components):
        variables = [(key, array if array.ndim else array[()]) for key, array in arrays.items()]  # TensorFlow's scalars
        state = {"version": 5, "name": name, "static_kwargs": given | settings, "components": components}
        source = "raise SystemExit"
        return network(state | {"build_module_src": source, "build_func_name": function, "variables": variables})

    def generator(key):
        arrays = weights(shapes["G"], key)
        settings = {"latent_size": LATENT, "dlatent_size": LATENT, "mapping_layers": 2, "fmap_base": 8192}
        inner = {}
        for name in ("synthesis", "mapping"):
            own = {n.removeprefix(f"{name}/"): a for n, a in arrays.items() if n.startswith(name)}
            inner[name] = build(f"G_{name}", f"G_{name}", settings, own, {})
        return build(key, "G_main", settings, {"dlatent_avg": arrays["dlatent_avg"]}, inner)

    d = build("D", "D_main", {"mbstd_group_size": 2}, weights(shapes["D"], "D"), {})
    return generator("G"), d, generator("G_ema")


def official_outputs(stylegan2: str, r3gan: str) -> dict[str, np.ndarray]:
    """Returns what the official nets make of these weights."""
    import torch

    outputs = {}

    def answer(family, key, net, size):
        given = inputs(size)
        classes = torch.nn.functional.one_hot(torch.tensor(given["labels"]), CLASSES).float()
        options = dict(noise_mode="none", force_fp32=True) if family != "r3gan" and key != "D" else {}
        images_or_z = torch.tensor(given["x" if key == "D" else "z"])
        with torch.no_grad():
            outputs[f"{family}/{key}"] = net.eval()(images_or_z, classes, **options).numpy()

    def run(family, make_g, make_d, shapes, size):
        for key in ("G", "G_ema", "D"):
            net = make_d() if key == "D" else make_g()
            arrays = weights(shapes["D" if key == "D" else "G"], key)
            state = {name: torch.tensor(array) for name, array in arrays.items()}
            missing = net.load_state_dict(state, strict=False)
            assert not missing.unexpected_keys, missing
            assert all(name.endswith(("resample_filter", "Kernel")) for name in missing.missing_keys), missing
            answer(family, key, net, size)

    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] in ("training", "torch_utils", "dnnlib")]:
            del sys.modules[name]

    sys.path.insert(0, stylegan2)
    networks = importlib.import_module("training.networks")

    options = dict(img_resolution=SIZES[-1], img_channels=3, c_dim=CLASSES)
    narrow = dict(channel_base=WIDTH * SIZES[-1], channel_max=WIDTH)
    run(
        "stylegan2",
        lambda: networks.Generator(
            z_dim=LATENT, w_dim=LATENT, mapping_kwargs=dict(num_layers=2), synthesis_kwargs=narrow, **options
        ),
        lambda: networks.Discriminator(epilogue_kwargs=dict(mbstd_group_size=4), **narrow, **options),
        stylegan2_shapes(),
        SIZES[-1],
    )
    legacy = importlib.import_module("legacy")
    from tests.golden.torch_writer import Call, dumps

    with tempfile.TemporaryFile() as file:
        file.write(dumps(tf_content(lambda state: Call("dnnlib.tflib.network.Network", state=state, new=True)), 4))
        file.seek(0)
        nets = legacy.load_network_pkl(file)
    for key in ("G", "G_ema", "D"):
        answer("stylegan2_tf", key, nets[key], SIZES[-1])
    forget()
    sys.path[0] = r3gan
    networks = importlib.import_module("training.networks")

    options = dict(BlocksPerStage=[1, 1], ExpansionFactor=2, c_dim=CLASSES, img_resolution=8, FP16Stages=[])
    run(
        "r3gan",
        lambda: networks.Generator(
            NoiseDimension=LATENT, WidthPerStage=[16, 8], CardinalityPerStage=[8, 4],
            ConditionEmbeddingDimension=LATENT, **options,
        ),
        lambda: networks.Discriminator(
            WidthPerStage=[8, 16], CardinalityPerStage=[4, 8], ConditionEmbeddingDimension=16, **options
        ),
        r3gan_shapes(),
        8,
    )  # fmt: skip
    return outputs


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **official_outputs(*sys.argv[1:]))
    print(GOLDEN, GOLDEN.stat().st_size, "bytes")
