"""Features of images: any networks, on all devices of all processes; those of reals are computed once and kept on disk.

A feature name is "network/output", such as "inception/pool".
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxgan.core.array_file import ArrayFile, NotKept, keeping, locked_to_keep
from jaxgan.core.errors import lookup
from jaxgan.core.files import announce, atomic_write, keyed_cache_directory
from jaxgan.core.integrity import Damaged
from jaxgan.core.parallel import DeviceMap, agree
from jaxgan.core.progress import progress
from jaxgan.data import Dataset, StreamingDataset, read, subset
from jaxgan.evaluation.networks import FeatureNetwork
from jaxgan.sampling.generator import Generator, draw_latents, generate

FORMAT = 2  # version of what is kept on disk


class FeatureSet(NamedTuple):
    """What a metric sees of a set of images."""

    features: np.ndarray  # float32 [N, width]
    labels: np.ndarray | None  # int32 [N]; None: unlabelled


class FeatureExtractor:
    """Computes features of images, or of a generator's samples, in one program on all devices of this process.

    Grey images become RGB by repetition where a network takes colours. All products are in full float32 on any device.

    Args:
      networks: at least those that `names` begin with.
      names: feature names.
      batch_size: images at a time on each device; as many as its memory holds beside what else is there.
    """

    def __init__(self, networks: dict[str, FeatureNetwork], names: Iterable[str], batch_size: int = 64):
        self.names = sorted(names)
        self.networks = {network: networks[network] for network in sorted({name.split("/")[0] for name in self.names})}
        self.batch_size = batch_size
        self.variables = {network: n.variables for network, n in self.networks.items()}
        self._map_images = DeviceMap(self.features, batch_size)
        self._map_samples = {}  # by the generator's module: other variables of it compile nothing

    def from_images(self, dataset: Dataset, indices: np.ndarray, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yields the features {name: float32 [n, width]} of images of a set, see `image_blocks`, in blocks."""
        return self._map_images(self.variables, image_blocks(dataset, indices, self._map_images.block, start))

    def from_samples(
        self, generator: Generator, index: np.ndarray, labels: np.ndarray, seed: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields the features of a generator's samples `index` [N] of a seed, with labels [N], in blocks."""
        module, z_dim = generator.module, generator.z_dim
        if (module, z_dim) not in self._map_samples:

            def features(variables, block):
                z, _, keys = draw_latents(variables["seed"], z_dim, 0, block["index"])
                images = generate(module, variables["generator"], z, block["labels"], keys)
                return self.features(variables["networks"], images)

            self._map_samples[module, z_dim] = DeviceMap(features, self.batch_size)
        mapped = self._map_samples[module, z_dim]
        starts = range(0, len(index), mapped.block)
        blocks = ({"index": index[i : i + mapped.block], "labels": labels[i : i + mapped.block]} for i in starts)
        variables = {"networks": self.variables, "generator": generator.variables, "seed": np.int32(seed)}
        return mapped(variables, blocks)

    def widths(self, image_shape: tuple[int, ...]) -> dict[str, int]:
        """Returns how many numbers each feature of images of this shape has."""
        images = jax.ShapeDtypeStruct((1, *image_shape), np.uint8)
        return {name: x.shape[1] for name, x in jax.eval_shape(self.features, self.variables, images).items()}

    def features(self, variables, images) -> dict[str, jax.Array]:
        """Returns {name: float32 [B, width]} of images uint8 [B, H, W, C]; pure."""
        rgb = jnp.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
        with jax.default_matmul_precision("highest"):  # GPUs and TPUs round to fewer bits otherwise
            outputs = {
                name: network(variables[name], rgb if network.colours else images)
                for name, network in self.networks.items()
            }
        split = {name: name.split("/") for name in self.names}
        return {name: lookup(outputs[net], output, f"features of {net}") for name, (net, output) in split.items()}


def process_share(n: int) -> slice:
    """Returns which of n examples are this process's: neighbours, about as many in each process."""
    size = -(-n // jax.process_count())
    start, stop = (min(i * size, n) for i in (jax.process_index(), jax.process_index() + 1))
    return slice(start, stop)


def gather(features: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """Returns the n rows of all processes, each of which brings its `process_share` and must call this."""
    if jax.process_count() == 1:
        return features
    size = -(-n // jax.process_count())
    padded = {name: np.pad(rows, ((0, size - len(rows)), (0, 0))) for name, rows in features.items()}
    return {name: x.reshape(-1, x.shape[-1])[:n] for name, x in multihost_utils.process_allgather(padded).items()}


def collect(parts: Iterable[dict[str, np.ndarray]], widths: dict[str, int], n: int, what: str, show: bool = True):
    """Returns blocks of features, n rows in all, joined to {name: float32 [n, width]}; `what` names the bar."""
    features = {name: np.empty((n, width), np.float32) for name, width in widths.items()}
    done = 0
    with progress(n, what, show=show) as update:
        for part in parts:
            stop = done + len(next(iter(part.values())))
            for name, rows in part.items():
                features[name][done:stop] = rows
            update(stop - done)
            done = stop
    return features


def image_blocks(dataset: Dataset, indices: np.ndarray, size: int, start: int = 0) -> Iterator[np.ndarray]:
    """Yields images of a set, uint8 [n, H, W, C] with n <= size, from position `start` of `indices` on.

    The index len(dataset) + i is image i flipped horizontally.
    """
    for first in range(start, len(indices), size):
        part = indices[first : first + size]
        images, _ = read(dataset, part % len(dataset))
        flipped = (part >= len(dataset))[:, None, None, None]
        yield np.where(flipped, images[:, :, ::-1], images)


def identity(dataset: Dataset) -> str:
    """Returns the SHA-256 of all images, or of 256 and their number where a set is decoded as it is read."""
    digest = hashlib.sha256(repr((len(dataset), tuple(dataset.image_shape))).encode())
    if isinstance(dataset, StreamingDataset):
        digest.update(subset(dataset)[0].tobytes())
    else:
        for start in range(0, len(dataset), 4096):
            digest.update(read(dataset, np.arange(start, min(start + 4096, len(dataset))))[0].tobytes())
    return digest.hexdigest()


def cached_features(
    dataset: Dataset,
    indices: np.ndarray,
    extractor: FeatureExtractor,
    what: str,
    show_progress: bool = True,
    flush_images: int = 2048,
) -> dict[str, np.ndarray]:
    """Returns features of images of a set, {name: float32 [N, width]}, from the cache as far as they are in it.

    They are kept in the user's cache under everything that changes them: the images and their order, network, weights,
    resize and JAX's backend. The processes of a run share the work; all must call this.

    Args:
      dataset, indices: as for `image_blocks`.
      extractor: the features to compute.
      what: the set in words, for people who look into the cache or at the progress bar.
      show_progress: whether to show the bar.
      flush_images: a kill loses fewer images than this.
    """
    n, indices = len(indices), indices[process_share(len(indices))]
    widths = extractor.widths(dataset.image_shape)

    def own() -> dict[str, np.ndarray]:
        if not len(indices):
            return {name: np.empty((0, width), np.float32) for name, width in widths.items()}
        try:
            return _kept_features(dataset, indices, extractor, widths, what, show_progress, flush_images)
        except NotKept as error:
            announce(f"warning: the features of {what} are not kept: {error}")
            return collect(extractor.from_images(dataset, indices), widths, len(indices), what, show_progress)

    return gather(agree(own), n)


def _kept_features(dataset, indices, extractor, widths, what, show_progress, flush_images) -> dict[str, np.ndarray]:
    """Returns what `cached_features` does, of this process's images; raises NotKept where they cannot be kept."""
    about = {
        "format": FORMAT,
        "images": identity(dataset),
        "indices": hashlib.sha256(indices.astype(np.int64).tobytes()).hexdigest(),
        "backend": jax.default_backend(),
    }
    with contextlib.ExitStack() as stack:
        files, done = {}, {}
        for name, width in widths.items():
            network = extractor.networks[name.split("/")[0]]
            key = about | {"features": name, "weights": network.weights, "resize": network.resize}
            key = json.dumps(key, sort_keys=True)
            directory = keyed_cache_directory(f"features-{name.replace('/', '-')}", key)
            stack.enter_context(locked_to_keep(directory))
            files[name] = ArrayFile(directory / "features.npy", np.float32, (len(indices), width))
            try:
                done[name] = files[name].load()
            except Damaged as error:
                announce(f"warning: {directory} is damaged ({error}) and made anew")
                done[name] = 0
            if not done[name]:
                with keeping():
                    atomic_write(directory / "about.txt", f"{what}\n{key}\n".encode())
        start = min(done.values())
        parts = extractor.from_images(dataset, indices, start) if start < len(indices) else ()
        with progress(len(indices), what, start, show_progress and start < len(indices)) as update:
            for part in parts:
                stop = start + len(next(iter(part.values())))
                for name, rows in part.items():
                    new = rows[max(done[name] - start, 0) :]  # the others are there already
                    files[name].append(new)
                    done[name] += len(new)
                    if done[name] - files[name].safe >= flush_images or stop == len(indices):
                        files[name].flush()
                update(stop - start)
                start = stop
        return {name: file.read() for name, file in files.items()}
