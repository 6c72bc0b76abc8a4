"""Times FID's Inception network on this machine and, where installed, pytorch-fid's: images a second.

    JAX_PLATFORMS=cpu python benchmarks/inception.py [--images=128] [--size=32] [--repeats=5]

Ours runs as in `jaxgan.evaluate`, on two devices; pytorch-fid in batches of 50, its default. Both take turns in
one process, so that other load on the machine hurts them alike, from uint8 images to features in host memory; the
figures are medians, and a core's time tells more than images a second where other work is going on.
OMP_WAIT_POLICY=passive keeps PyTorch's idle threads from counting. Weights are random and the same for both, and the
largest difference between their features is printed, for the same input: pytorch-fid resizes and scales differently.
"""

import argparse
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.core import memory
from jaxgan.data import ArrayDataset
from jaxgan.evaluation.features import FeatureExtractor
from jaxgan.evaluation.networks import inception

try:
    import torch
    from pytorch_fid import inception as pytorch_fid
except ImportError:
    torch = None


def pytorch_fid_net():
    """Returns pytorch-fid's network with random weights, and their state dict."""
    with (
        mock.patch.object(torch.nn.Module, "load_state_dict"),
        mock.patch.object(pytorch_fid, "load_state_dict_from_url"),
    ):
        net = pytorch_fid.fid_inception_v3().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    arrays = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    with mock.patch.object(pytorch_fid, "fid_inception_v3", return_value=net):
        return pytorch_fid.InceptionV3().eval(), arrays


def random_variables():
    """Returns variables of our network."""
    image = jax.ShapeDtypeStruct((1, inception.SIZE, inception.SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(inception.Inception().init, jax.random.key(0), image)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape, np.float32) / a.size**0.5), shapes)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)  # as `jaxgan evaluate` does
    memory.retain_freed()
    functions = {}
    if torch is None:
        variables = random_variables()
    else:
        net, arrays = pytorch_fid_net()
        variables = inception.from_arrays(arrays, "random weights")

        @torch.no_grad()
        def theirs(images):
            blocks = (images[i : i + 50] for i in range(0, len(images), 50))
            batches = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in blocks)
            return np.concatenate([net(x)[0][:, :, 0, 0].numpy() for x in batches])

        functions["pytorch-fid"] = theirs
    network = inception.abstract()._replace(variables=variables, weights="random")
    extractor = FeatureExtractor({"inception": network}, ["inception/pool"])

    def ours(images):
        parts = extractor.from_images(ArrayDataset(images), np.arange(len(images)))
        return np.concatenate([part["inception/pool"] for part in parts])

    functions["jaxgan"] = ours
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.images, args.size, args.size, 3), np.uint8)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, torch {torch.__version__ if torch else None}")
    seconds = {name: [] for name in functions}
    for function in functions.values():
        function(images)  # compiles
    for _ in range(args.repeats):
        for name, function in functions.items():
            start, cpu = time.perf_counter(), time.process_time()
            function(images)
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    for name, times in seconds.items():
        wall, cpu = (statistics.median(t) for t in zip(*times))
        print(f"{name:12} {args.images / wall:7.2f} images/s, {1e3 * cpu / args.images:6.1f} ms of a core an image")
    if torch:
        same = rng.integers(0, 256, (2, inception.SIZE, inception.SIZE, 3), np.uint8)
        net.resize_input = net.normalize_input = False  # to x / 127.5 - 1, where the original has (x - 128) / 128
        with torch.no_grad():
            theirs = net((torch.from_numpy(same).permute(0, 3, 1, 2).float() - 128) / 128)[0][:, :, 0, 0].numpy()
        difference = np.abs(ours(same) - theirs).max() / np.abs(theirs).max()
        print(f"largest difference of features {difference:.1e} of the largest")


if __name__ == "__main__":
    main()
