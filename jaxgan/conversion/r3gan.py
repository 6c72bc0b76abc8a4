"""R3GAN as its authors pickle it: plain modules of stages, each a list of layers."""

import numpy as np

from jaxgan.conversion.objects import Arrays, Converted, arrays_of, as_dict, class_name, images_in_training

LICENCE = (
    "the repository of R3GAN states no licence; ask its authors before you share or sell what comes of the weights"
)
UNUSED = ("Kernel",)  # the resampling filter, a constant of the architecture


def knows(content) -> bool:
    """Returns whether a file holds networks of this family."""
    return class_name(as_dict(content).get("G_ema")) == "training.networks.Generator"


def convert(content: dict) -> Converted:
    """Returns the networks of a file; raises a ValueError where their architecture is none that jaxgan has."""
    arrays = {name: arrays_of(content.get(name), name) for name in ("G", "D", "G_ema")}
    g, d = arrays["G_ema"], arrays["D"]
    stages = g.count("Model.MainLayers.{}.Layers.1.LinearLayer1.Layer.weight")
    first = "Model.MainLayers.0.Layers.0"
    classes = g.shape("Model.EmbeddingLayer.weight")[1] if "Model.EmbeddingLayer.weight" in g else 0
    embedded = g.shape("Model.EmbeddingLayer.weight")[0] if classes else 0
    settings = {
        "model.name": "r3gan",
        "model.z_dim": g.shape(f"{first}.LinearLayer.weight")[1] - embedded,
        "loss": "rpgan",
    }
    for net, arrays_of_net, at in (("g", g, 1), ("d", d, 0)):
        if net == "d" and not d.names:
            continue
        layer = "Model.MainLayers.{}.Layers.{}.LinearLayer{}.Layer.weight"
        widths = tuple(arrays_of_net.shape(layer.format(i, at, 1))[1] for i in range(stages))
        expanded, group, *_ = arrays_of_net.shape(layer.format(0, at, 2))
        settings |= {
            f"model.{net}.channels": widths,
            f"model.{net}.blocks": _blocks(arrays_of_net, stages, at),
            f"model.{net}.expansion": expanded // widths[0],
            f"model.{net}.group_width": group,
        }
    variables = {"ema": _generator(g, stages, settings["model.g.blocks"])}
    if arrays["G"].names:
        variables["g"] = _generator(arrays["G"], stages, settings["model.g.blocks"])
    if d.names:
        variables["d"] = _discriminator(d, stages, settings["model.d.blocks"])
    channels = variables["ema"]["params"]["pixels"]["kernel"].shape[-1]
    images = images_in_training(content)
    return Converted("R3GAN", LICENCE, settings, 4 << (stages - 1), channels, classes, variables, images)


def _blocks(arrays: Arrays, stages: int, at: int) -> int:
    """Returns the number of blocks in each stage; they are the layers from number `at` on."""
    counts = {
        arrays.count(f"Model.MainLayers.{i}.Layers.{{}}.LinearLayer3.Layer.weight")
        if at == 0
        else sum(f".MainLayers.{i}." in name and name.endswith("LinearLayer3.Layer.weight") for name in arrays.names)
        for i in range(stages)
    }
    if len(counts) != 1:
        raise ValueError(f"its stages have {', '.join(map(str, sorted(counts)))} blocks; jaxgan's have equally many")
    return counts.pop()


def _block(arrays: Arrays, name: str) -> dict:
    def kernel(i):
        return arrays.kernel(f"{name}.LinearLayer{i}.Layer.weight")

    return {
        "expand": {"kernel": kernel(1), "bias": arrays.take(f"{name}.NonLinearity1.Bias")},
        "spatial": {"kernel": kernel(2), "bias": arrays.take(f"{name}.NonLinearity2.Bias")},
        "reduce": {"kernel": kernel(3)},
    }


def _widening(arrays: Arrays, name: str, i: int) -> dict:
    weight = f"{name}.LinearLayer.Layer.weight"
    return {f"width_{i}": {"kernel": arrays.kernel(weight)}} if weight in arrays else {}


def _classes(arrays: Arrays) -> dict:
    weight = "Model.EmbeddingLayer.weight"
    return {"classes": {"embedding": arrays.take(weight, (1, 0))}} if weight in arrays else {}


def _generator(arrays: Arrays, stages: int, blocks: int) -> dict:
    """Returns the variables of `jaxgan.models.r3gan.Generator`."""
    first = "Model.MainLayers.0.Layers.0"
    params = _classes(arrays) | {"dense": arrays.dense(f"{first}.LinearLayer", bias=None)}
    params["basis"] = arrays.take(f"{first}.Basis", (1, 2, 0))
    for i in range(stages):
        stage = f"Model.MainLayers.{i}.Layers"
        params |= _widening(arrays, f"{stage}.0", i) if i else {}
        params |= {f"block_{i}_{j}": _block(arrays, f"{stage}.{j + 1}") for j in range(blocks)}
    params["pixels"] = {"kernel": arrays.kernel("Model.AggregationLayer.Layer.weight")}
    arrays.require_empty(UNUSED)
    return {"params": params}


def _discriminator(arrays: Arrays, stages: int, blocks: int) -> dict:
    """Returns the variables of `jaxgan.models.r3gan.Discriminator`."""
    params = _classes(arrays) | {"pixels": {"kernel": arrays.kernel("Model.ExtractionLayer.Layer.weight")}}
    for i in range(stages):
        stage = f"Model.MainLayers.{i}.Layers"
        params |= {f"block_{i}_{j}": _block(arrays, f"{stage}.{j}") for j in range(blocks)}
        if i < stages - 1:
            params |= _widening(arrays, f"{stage}.{blocks}", i + 1)
    last = f"Model.MainLayers.{stages - 1}.Layers.{blocks}"
    basis = arrays.take(f"{last}.Basis.weight", (2, 3, 1, 0))  # [4, 4, 1, C]
    params |= {"basis": np.squeeze(basis, 2), "dense": arrays.dense(f"{last}.LinearLayer", bias=None)}
    arrays.require_empty(UNUSED)
    return {"params": params}
