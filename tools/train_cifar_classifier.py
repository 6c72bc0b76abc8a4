"""Trains the classifier that ships with the package, jaxgan/evaluation/networks/cifar.npz.

    python tools/train_cifar_classifier.py --out=FILE.npz

CIFAR-10 comes from tensorflow-datasets, or with --manual_dir=DIR from the archive cifar-10-binary.tar.gz in that
directory. --noverify_checksum accepts a copy that is not the official one; --note says what it is and is kept in the
file. The file is written after each epoch. Every draw is a function of the seed, the step and the image. The file that
ships took 38 minutes on two busy CPU cores.
"""

import argparse
import enum
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from jaxgan import data
from jaxgan.core import memory, rng
from jaxgan.core.parallel import AXIS, Devices, first_replica
from jaxgan.evaluation.networks import cifar
from jaxgan.settings import default_config

# After Jordan (2024, "94% on CIFAR-10 in 3.29 seconds", and "Muon"), for batches of another size.
SETTINGS = dict(
    epochs=14,
    batch_size=250,
    kernel_rate=0.08,  # the part of its norm that a kernel changes by in a step; all rates fall linearly to 0
    kernel_momentum=0.6,
    learning_rate=0.375,  # of biases and the last layer, times the scales below
    momentum=0.85,
    weight_decay=1.3e-3,  # of the same
    label_smoothing=0.1,
    seed=0,
)
BIAS_SCALE = 64.0  # biases behind batch norm learn faster,
HEAD_SCALE = 1 / 9  # the last layer slower
NET = cifar.CifarNet(dtype=jnp.bfloat16)
SHIFT = 2  # pixels that an image is moved at most, each way


class Stream(enum.Enum):
    """What a draw is for, see `jaxgan.core.rng`."""

    INIT = (0, 0)
    FLIP = (1, 0)
    SHIFT = (2, 0)


def whitening(images: np.ndarray, epsilon: float = 2e-4) -> dict[str, np.ndarray]:
    """Returns the kernel [2, 2, 3, 24] and bias of the first layer, from images uint8 [N, 32, 32, 3]; not trained.

    They are the principal components of 2x2 patches, centred and scaled to variance 1 (less where it is not far above
    `epsilon`, for images in [-1, 1]), and their negatives, as ReLU follows.
    """
    x = images.astype(np.float32) / 127.5 - 1.0
    shifted = [x[:, i : 31 + i, j : 31 + j] for i in range(2) for j in range(2)]
    patches = np.stack(shifted, axis=3).reshape(-1, 12)
    variances, components = np.linalg.eigh(np.cov(patches, rowvar=False))
    components = components / np.sqrt(variances + epsilon)  # [12, component]
    components = np.concatenate([components, -components], axis=1)
    kernel, bias = components.reshape(2, 2, 3, cifar.WHITENED), -patches.mean(axis=0) @ components
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def augment(images: jax.Array, index: jax.Array, epoch: jax.Array, step: jax.Array, key: jax.Array) -> jax.Array:
    """Flips and moves images [B, H, W, C], whose indices in the set are `index`, int32 [B].

    Every image is flipped horizontally in every other epoch (Jordan 2024, section 3.6), in the first with probability
    1/2, and moved by -2 to 2 pixels along either axis; what is missing is reflected.
    """
    first = rng.randint(rng.example_keys(rng.stream_key(key, Stream.FLIP), index), 2)
    flipped = (first + epoch) % 2 == 1
    images = jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    places = 2 * SHIFT + 1
    place = rng.randint(rng.example_keys(rng.stream_key(key, Stream.SHIFT, step), index), places**2)
    padded = jnp.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
    start = jnp.stack([place // places, place % places, jnp.zeros_like(place)], axis=1)  # [B, 3]
    return jax.vmap(lambda x, s: jax.lax.dynamic_slice(x, s, images.shape[1:]))(padded, start)


def _group(path, _) -> str:
    return "kernels" if path[0].key.startswith("conv") else "others"


def unit_filters(params: dict) -> dict:
    """Rescales each convolution's kernel to a mean square norm of 1 a filter; batch norm undoes it."""

    def rescale(path, a):
        return a * (a.shape[-1] ** 0.5 / jnp.linalg.norm(a)) if _group(path, a) == "kernels" else a

    return jax.tree_util.tree_map_with_path(rescale, params)


def optimizer(settings: dict, steps: int) -> optax.GradientTransformation:
    """Returns Muon for the kernels of convolutions and SGD for the others, both with Nesterov's momentum."""

    def scale(path, gradient):
        return gradient * (HEAD_SCALE if path[0].key == "head" else BIAS_SCALE)

    matrices = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    kernels = optax.chain(
        optax.contrib.scale_by_muon(
            ns_steps=3,
            beta=settings["kernel_momentum"],
            weight_dimension_numbers=lambda kernels: jax.tree.map(lambda _: matrices, kernels),
        ),
        optax.scale_by_learning_rate(optax.linear_schedule(settings["kernel_rate"], 0.0, steps)),
    )
    others = optax.chain(
        optax.stateless(lambda gradients, _: jax.tree_util.tree_map_with_path(scale, gradients)),
        optax.add_decayed_weights(settings["weight_decay"]),
        optax.sgd(optax.linear_schedule(settings["learning_rate"], 0.0, steps), settings["momentum"], nesterov=True),
    )
    groups = functools.partial(jax.tree_util.tree_map_with_path, _group)
    return optax.multi_transform({"kernels": kernels, "others": others}, groups)


def train(net: cifar.CifarNet, images: np.ndarray, labels: np.ndarray, settings: dict):
    """Yields (mean loss, variables) after each epoch over images uint8 [N, 32, 32, 3] and labels [N].

    All devices share the batch.
    """
    devices = Devices()
    batch_size, epochs, seed = settings["batch_size"], settings["epochs"], settings["seed"]
    key = jax.random.key(seed)
    steps_per_epoch = len(images) // batch_size
    optimize = optimizer(settings, epochs * steps_per_epoch)
    whiten = whitening(images[:5000])
    net = net.clone(axis_name=AXIS)
    params = jax.jit(net.init)(rng.stream_key(key, Stream.INIT), images[:1])["params"]
    params = unit_filters({name: layer for name, layer in params.items() if name != "whiten"})

    def loss(params, whiten, x, y):
        variables = {"params": {**params, "whiten": whiten}}
        outputs, _ = net.apply(variables, x, train=True, mutable=["batch_stats"])
        target = optax.smooth_labels(jax.nn.one_hot(y, len(cifar.CLASSES)), settings["label_smoothing"])
        return jnp.mean(optax.softmax_cross_entropy(outputs["logits"], target))

    def update(whiten, state, batch, key):
        params, opt_state, step = state
        x = augment(batch["x"], batch["index"], step // steps_per_epoch, step, key)
        value, gradients = jax.lax.pmean(jax.value_and_grad(loss)(params, whiten, x, batch["y"]), AXIS)
        updates, opt_state = optimize.update(gradients, opt_state, params)
        return (unit_filters(optax.apply_updates(params, updates)), opt_state, step + 1), value

    update = devices.parallelize(update)
    state = devices.replicate((params, optimize.init(params), jnp.int32(0)))
    for epoch in range(epochs):
        losses = []
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            index = data.epoch_positions(seed, step * batch_size, batch_size, len(images))
            batch = {"x": images[index], "y": labels[index], "index": index.astype(np.int32)}
            batch = jax.tree.map(lambda a: a.reshape(len(devices.devices), -1, *a.shape[1:]), batch)
            state, value = update(whiten, state, devices.put_batch(batch), key)
            losses.append(float(value))
        params = {**first_replica(state[0]), "whiten": whiten}
        yield float(np.mean(losses)), with_statistics(net, params, images[:5000], batch_size)


def with_statistics(net: cifar.CifarNet, params: dict, images: np.ndarray, batch_size: int) -> dict:
    """Returns variables whose batch statistics are means over batches of these images."""
    batches = np.array_split(images, max(len(images) // batch_size, 1))
    statistics = [_statistics(net.clone(dtype=jnp.float32, axis_name=None), params, x) for x in batches]
    mean = jax.tree.map(lambda *a: np.mean(a, axis=0), *statistics)
    return {"params": jax.tree.map(np.asarray, params), "batch_stats": mean}


@functools.partial(jax.jit, static_argnums=0)
def _statistics(net, params, x):
    return net.apply({"params": params}, x, train=True, mutable=["batch_stats"])[1]["batch_stats"]


def predict(network, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Returns the most likely class of each image uint8 [N, H, W, 3], int [N]."""
    apply = jax.jit(network.apply)
    batches = np.array_split(images, -(-len(images) // batch_size))
    return np.concatenate([np.argmax(apply(network.variables, x)["logits"], axis=1) for x in batches])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="the .npz file to write")
    parser.add_argument("--data_dir", default="", help="where sets are kept; ~/tensorflow_datasets if not given")
    parser.add_argument("--manual_dir", default="", help="holds cifar-10-binary.tar.gz")
    parser.add_argument("--noverify_checksum", action="store_false", dest="verify_checksum")
    parser.add_argument("--note", default="tfds cifar10", help="what the images are, for the file's metadata")
    args = parser.parse_args()
    memory.retain_freed()
    jax.config.update("jax_num_cpu_devices", 2)  # two that compute side by side are faster than one
    config = default_config().data
    config.update(name="cifar10", split="train", eval_split="test", image_size=cifar.SIZE)
    config.update(dir=args.data_dir, manual_dir=args.manual_dir, verify_checksum=args.verify_checksum)
    sets = data.load(config), data.load_held_out(config)
    (images, labels), (test_images, test_labels) = (s.get(np.arange(len(s))) for s in sets)

    start, cpu = time.monotonic(), time.process_time()
    for epoch, (loss, variables) in enumerate(train(NET, images, labels, SETTINGS), 1):
        seconds, cpu_seconds = round(time.monotonic() - start), round(time.process_time() - cpu)
        notes = dict(data=args.note, recipe=SETTINGS, epochs=epoch, seconds=seconds, cpu_seconds=cpu_seconds)
        cifar.save(args.out, cifar.fold(variables), notes)
        accuracy = float(np.mean(predict(cifar.load(args.out), test_images) == test_labels))
        cifar.save(args.out, cifar.fold(variables), notes | {"accuracy": accuracy})
        print(f"epoch {epoch}: loss {loss:.4f}, test accuracy {accuracy:.4f}, {seconds} s", flush=True)


if __name__ == "__main__":
    main()
