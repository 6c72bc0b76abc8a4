"""Makes inception.npz: what torch-fidelity's Inception makes of some images, with weights that numpy draws.

python tests/golden/inception.py
"""

import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

SIZES = ((32, 32), (20, 45))  # of the images that go through the network
SHRUNK = (320, 311)  # of one that is only resized
STEP = 13  # of the pixels that are kept of a resized image


def random_arrays(shapes):
    """A state dict of these shapes with activations of about 1: seeded by nothing but the order of the names."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            arrays[name] = np.zeros(shape, np.int64)
        elif name.endswith(("bn.weight", "running_var")):
            arrays[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif len(shape) == 1:
            arrays[name] = rng.uniform(-0.3, 0.3, shape).astype(np.float32)
        else:
            fan_in = np.prod(shape[1:])
            arrays[name] = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2.0 / fan_in))
    return arrays


def images(height, width, count=2):
    """Noise and a gradient with edges, uint8 [count, height, width, 3]."""
    rng = np.random.default_rng(height * width)
    noise = rng.integers(0, 256, (count, height, width, 3))
    ramp = np.linspace(0, 255, width)[None, :, None] * np.linspace(0.2, 1, 3)
    ramp = np.where(np.arange(height)[:, None, None] < height // 2, ramp, 255 - ramp)
    noise[0] = ramp
    return noise.astype(np.uint8)


def main():
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    # The network wants its weights before it can say their shapes.
    with mock.patch.object(fidelity, "load_state_dict_from_url"), mock.patch.object(torch.nn.Module, "load_state_dict"):
        state = fidelity.FeatureExtractorInceptionV3("shapes", ["2048"]).state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    arrays = {name: torch.from_numpy(array) for name, array in random_arrays(shapes).items()}
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(arrays, file.name)
        net = fidelity.FeatureExtractorInceptionV3("golden", ["2048", "logits_unbiased"], file.name)
    spatial = []
    net.Mixed_6d.branch1x1.register_forward_hook(lambda _, __, out: spatial.append(out[:, :7].permute(0, 2, 3, 1)))

    golden = {"shapes": json.dumps(shapes)}
    for size in (*SIZES, SHRUNK):
        x = torch.from_numpy(images(*size)).permute(0, 3, 1, 2)
        resized = interpolate_bilinear_2d_like_tensorflow1x(x.float(), (299, 299), align_corners=False)
        golden[f"resized_{size[0]}"] = resized.permute(0, 2, 3, 1)[:, ::STEP, ::STEP].numpy()
        if size in SIZES:
            pool, logits = net(x)
            golden |= {f"pool_{size[0]}": pool.numpy(), f"logits_{size[0]}": logits.numpy()}
            golden[f"spatial_{size[0]}"] = spatial.pop().reshape(len(x), -1).numpy()
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, **golden)
    for name, value in golden.items():
        if name != "shapes":
            print(f"{name}: {value.shape}, mean {value.mean():.3f}, deviation {value.std():.3f}")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
