"""Makes dinov2.pth and dinov2.npz here, with torch 2.13, transformers 5.24 and Pillow: python tests/golden/dinov2.py

The file holds a network of width 128 and depth 2 under the official names and with the official 37x37 positions. Its
arrays are overlapping views of two small storages, so that it is small. The features are those of transformers'
Dinov2Model, whose interpolation of the positions is replaced by the call in the official code (facebookresearch/dinov2
at b8931f7, `interpolate_pos_encoding` with the hub's settings), as the two differ.
"""

import pathlib

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

WIDTH, DEPTH, GRID = 128, 2, 37
STRIDES = {1: (1,), 2: (3, 1), 3: (1, 3, 1), 4: (29, 601, 37, 1)}  # of the overlapping views
HERE = pathlib.Path(__file__).parent


def shapes() -> dict[str, tuple[int, ...]]:
    """The official names of the arrays and their shapes."""
    block = {
        "norm1.weight": (WIDTH,),
        "norm1.bias": (WIDTH,),
        "attn.qkv.weight": (3 * WIDTH, WIDTH),
        "attn.qkv.bias": (3 * WIDTH,),
        "attn.proj.weight": (WIDTH, WIDTH),
        "attn.proj.bias": (WIDTH,),
        "ls1.gamma": (WIDTH,),
        "norm2.weight": (WIDTH,),
        "norm2.bias": (WIDTH,),
        "mlp.fc1.weight": (4 * WIDTH, WIDTH),
        "mlp.fc1.bias": (4 * WIDTH,),
        "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
        "mlp.fc2.bias": (WIDTH,),
        "ls2.gamma": (WIDTH,),
    }
    return {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + GRID**2, WIDTH),
        "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 14, 14),
        "patch_embed.proj.bias": (WIDTH,),
        **{f"blocks.{i}.{name}": shape for i in range(DEPTH) for name, shape in block.items()},
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }


def arrays() -> dict[str, torch.Tensor]:
    """Random arrays: gains around 1, everything else around 0."""
    rng = np.random.default_rng(0)
    sizes = {0: 6300, 1: 400}  # of the storage of numbers around the mean
    around = {mean: torch.from_numpy(rng.normal(mean, 0.1, n).astype(np.float32)) for mean, n in sizes.items()}
    result = {}
    for i, (name, shape) in enumerate(shapes().items()):
        is_gain = name.endswith("gamma") or (name.endswith("weight") and len(shape) == 1)
        result[name] = around[int(is_gain)].as_strided(shape, STRIDES[len(shape)], 5 * i)
    return result


def transformers_name(name: str) -> str:
    """What transformers calls the array with the official name."""
    for official, theirs in [
        ("pos_embed", "position_embeddings"),
        ("patch_embed.proj", "patch_embeddings.projection"),
        ("blocks.", "encoder.layer."),
        ("attn.proj", "attention.o_proj"),
        ("attn.", "attention."),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
    ]:
        name = name.replace(official, theirs)
    if name.startswith("norm."):
        return "layernorm." + name.removeprefix("norm.")
    return name if name.startswith("encoder.") else "embeddings." + name


def model(weights: dict[str, torch.Tensor]) -> Dinov2Model:
    """Transformers' network with these weights and the official interpolation."""
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=WIDTH // 64, image_size=14 * GRID, patch_size=14
    )
    net = Dinov2Model(config).eval()
    state = {}
    for name, array in weights.items():
        if ".qkv." in name:
            for part, third in zip("qkv", array.chunk(3)):
                state[transformers_name(name).replace("qkv", f"{part}_proj")] = third
        else:
            state[transformers_name(name)] = array
    net.load_state_dict(state)

    def interpolate(embeddings, height, width):
        if height == width == 14 * GRID:
            return weights["pos_embed"]
        patches = weights["pos_embed"][:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
        factors = tuple((size // 14 + 0.1) / GRID for size in (height, width))
        patches = torch.nn.functional.interpolate(patches, scale_factor=factors, mode="bicubic")
        return torch.cat([weights["pos_embed"][:, :1], patches.flatten(2).transpose(1, 2)], dim=1)

    net.embeddings.interpolate_pos_encoding = interpolate
    return net


def inputs(images: np.ndarray, size: int) -> torch.Tensor:
    """Images uint8 [B, H, W, 3] as dgm-eval gives them to the network, [B, 3, size, size]."""
    resized = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in images]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    return (pixels - mean) / std


if __name__ == "__main__":
    torch.save(arrays(), HERE / "dinov2.pth")
    net = model(torch.load(HERE / "dinov2.pth"))
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        pool = {f"pool_{size}": net(inputs(images, size)).pooler_output.numpy() for size in (224, 14 * GRID)}
    np.savez_compressed(HERE / "dinov2.npz", images=images, **pool)
