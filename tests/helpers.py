"""What several test files need besides the fixtures of conftest."""

import functools
import importlib.util
import os
import pathlib
import re
import socket
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.core import rng
from jaxgan.core.parallel import Devices, assert_replicated
from jaxgan.gan.optim import Optimizer
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.schedules import Schedule
from jaxgan.gan.state import TrainState, init_state
from jaxgan.gan.step import parallelize, train_step
from jaxgan.models import MODELS
from jaxgan.models.layers import BaseDiscriminator, BaseGenerator, BatchNorm, dropout, spectral_norm
from jaxgan.sampling.generator import Generator

ROOT = pathlib.Path(__file__).parents[1]


def load_tool(name: str):
    """Returns tools/NAME.py, which is no part of the package, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_curves(patch) -> None:
    """Spares runs their curves.png, which takes longer than all else of a tiny run; test_plots.py draws."""
    patch.setattr("jaxgan.training.plots.curves", lambda *arguments, **options: None)


def environment(devices: int = 1, **variables: str) -> dict[str, str]:
    """Returns the environment of a subprocess that imports jaxgan and tests from here and has so many CPU devices."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": re.sub(r"(device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"]),
        # XLA sizes its thread pool by this; fewer threads than simulated devices can dead-lock a collective.
        "NPROC": str(max(2 * devices, os.cpu_count())),
        **variables,
    }


def start_python(*arguments: str, devices: int = 1, **variables: str) -> subprocess.Popen:
    """Starts `python ARGUMENTS` with `devices` simulated devices, its output piped as text."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(devices, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_snippet(code: str, *arguments: str, devices: int = 8) -> str:
    """Returns the output of a piece of Python that runs in a process with `devices` simulated devices and must succeed.

    Example:
      >>> run_snippet("import jax; print(jax.device_count())")
      '8\\n'
    """
    return finish(start_python("-c", code, *arguments, devices=devices))


def run_processes(code: str, *arguments: str, count: int = 2) -> list[str]:
    """Returns the outputs of `count` processes of one JAX run, one device each, that run the same code.

    All must succeed. The code finds them joined and jax imported.
    """
    with socket.socket() as port:
        port.bind(("localhost", 0))
        coordinator = f"localhost:{port.getsockname()[1]}"
    join = "import jax; jax.distributed.initialize({!r}, {}, {})\n"
    processes = [start_python("-c", join.format(coordinator, count, i) + code, *arguments) for i in range(count)]
    try:
        return [finish(process) for process in processes]
    finally:  # where one fails, the others wait for it
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def finish(process: subprocess.Popen, status: int = 0) -> str:
    """Returns a process's output once it has exited with `status`."""
    try:
        output, _ = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    assert process.returncode == status, output
    return output


def assert_same_bits(actual, expected) -> None:
    """Raises unless two trees have one structure and the same dtypes, shapes and bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), jax.tree_util.keystr(path)


@functools.cache
def tiny_generator(name: str, image_size: int = 8, num_classes: int = 0) -> Generator:
    """Returns an untrained generator of an architecture with a few thousand weights; latents have 16 numbers."""
    channels = {"mlp": (16, 16), "dcgan": (16, 8, 8), "stylegan2": (8, 8), "r3gan2": (16,)}.get(name, (16, 16, 16))
    options = {"stylegan2": dict(w_dim=16, mapping_layers=1), "r3gan2": dict(blocks=1, group_width=16)}.get(name, {})
    module = MODELS[name][0](image_size=image_size, num_classes=num_classes, channels=channels, **options)
    key, z, label = jax.random.key(0), jnp.zeros((1, 16)), jnp.zeros(1, jnp.int32)
    variables = jax.jit(lambda: module.init(key, z, label, train=False, keys=jax.random.split(key, 1)))()
    return Generator(module, variables, z_dim=16)


# The smallest GAN that has all there is: it compiles within a second or two, where an architecture takes ten.

KEY = jax.random.key(0)


def random_keys(count: int, seed: int = 0) -> jax.Array:
    """Returns keys of examples, from numpy: to split a key takes a program of its own for each count."""
    data = np.random.default_rng(seed).integers(2**32, size=(count, 2), dtype=np.uint32)
    return jax.random.wrap_key_data(data)


class DenseGenerator(BaseGenerator):
    """Has two dense layers with batch norm between them, so that its state moves."""

    WIDTHS = {8: (16,)}  # noqa: RUF012

    @nn.compact
    def __call__(self, z, labels, train, keys=None):
        x = nn.Dense(*self.widths, name="dense")(z)
        x = nn.relu(BatchNorm(self.num_classes, self.axis_name, name="norm")(x, labels, train))
        x = nn.Dense(self.image_size**2 * self.image_channels, name="pixels")(x)
        return jnp.tanh(x).reshape(-1, self.image_size, self.image_size, self.image_channels)


class StyledGenerator(BaseGenerator):
    """Has a style for each of two layers, and noise."""

    WIDTHS = DenseGenerator.WIDTHS

    def setup(self):
        width = 2 * self.widths[0]
        self.styles = nn.Dense(width, name="styles")
        self.classes = nn.Embed(max(self.num_classes, 1), width, name="classes")
        self.layers = [nn.Dense(n) for n in (*self.widths, self.image_size**2 * self.image_channels)]

    def mapping(self, z, labels, train, keys=None, psi=1.0, cutoff=None):
        return (self.styles(z) + self.classes(labels)).reshape(len(z), 2, -1)

    def synthesis(self, ws, keys=None):
        x = nn.leaky_relu(self.layers[0](ws[:, 0])) * (1.0 + ws[:, 1])
        x = self.layers[1](x + 0.1 * rng.normal(keys, x.shape[1:]))
        return jnp.tanh(x).reshape(-1, self.image_size, self.image_size, self.image_channels)

    def __call__(self, z, labels, train, keys=None):
        return self.synthesis(self.mapping(z, labels, train, keys), keys)


class DenseDiscriminator(BaseDiscriminator):
    """Has a dense layer, with spectral norm or without, an activation and dropout."""

    spectral: bool = True
    dropout: float = 0.0
    smooth: bool = False  # softplus in place of LeakyReLU

    WIDTHS = DenseGenerator.WIDTHS
    batch_dependent = False

    @nn.compact
    def __call__(self, images, labels, train, keys=None):
        layer = nn.Dense(*self.widths, name="dense")
        x = (spectral_norm(layer, train) if self.spectral else layer)(images.reshape(len(images), -1))
        x = nn.softplus(x) if self.smooth else nn.leaky_relu(x, 0.2)
        if self.dropout:
            x = dropout(x, self.dropout, keys)
        return self.head(x, labels, nn.initializers.normal(0.5))


class NormedDiscriminator(BaseDiscriminator):
    """Has batch norm, so that a logit depends on its batch."""

    WIDTHS = DenseGenerator.WIDTHS

    @nn.compact
    def __call__(self, images, labels, train, keys=None):
        x = nn.Dense(*self.widths, name="dense")(images.reshape(len(images), -1))
        x = nn.softplus(BatchNorm(axis_name=self.axis_name, name="norm")(x, labels, train))
        return self.head(x, labels, nn.initializers.normal(0.5))


def sgd(rate: float = 0.01) -> Optimizer:
    """Returns gradient descent, after which a change of the parameters is a gradient."""
    return Optimizer(optax.sgd, {"learning_rate": Schedule(rate)})


def tiny_recipe(generator=None, discriminator=None, num_classes: int = 0, **changes) -> Recipe:
    """Returns a recipe of the smallest nets at 8 pixels, or of those given, with gradient descent."""
    nets = {"generator": generator or DenseGenerator(), "discriminator": discriminator or DenseDiscriminator()}
    nets = {name: net.clone(image_size=8, num_classes=num_classes) for name, net in nets.items()}
    defaults = dict(optimizer_g=sgd(), optimizer_d=sgd(), z_dim=8, batch_size=8)
    return Recipe(**nets, **(defaults | changes))


def random_batches(recipe: Recipe, steps: int, seed: int = 0) -> dict:
    """Returns what `steps` updates take: images uint8 [steps, n, B, H, W, C] and labels [steps, n, B]."""
    draw = np.random.default_rng(seed)
    shape = (steps, recipe.real_batches_per_step, recipe.batch_size)
    return {
        "images": draw.integers(0, 256, (*shape, *recipe.image_shape), dtype=np.uint8),
        "labels": draw.integers(0, max(recipe.generator.num_classes, 1), shape, dtype=np.int32),
    }


def split_batches(batches: dict, count: int) -> dict:
    """Returns [K, n, B, ...] as [devices, K, n, b, ...]."""

    def split(x):
        steps, n, size, *rest = x.shape
        return np.moveaxis(x.reshape(steps, n, count, size // count, *rest), 2, 0)

    return jax.tree.map(split, batches)


jitted_init, jitted_step = jax.jit(init_state), jax.jit(train_step)  # one program for all tests of one kind of recipe


def initial_state(recipe: Recipe, seed: int = 0) -> TrainState:
    """Returns a state without the initial values of the nets, to compile which takes as long as the step."""
    draw = np.random.default_rng(seed)

    def weights(path, leaf):
        if leaf.ndim < 2:
            return np.full(leaf.shape, path[-1].key not in ("bias", "mean"), leaf.dtype)
        fan_in = np.prod(leaf.shape[:-1])
        return (draw.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(leaf.dtype)

    def net(shapes):
        variables = jax.tree_util.tree_map_with_path(weights, shapes.variables)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state)
        return shapes.with_variables(variables).replace(opt_state=zeros)

    shapes = jax.eval_shape(init_state, recipe, KEY)
    g, d = net(shapes.g), net(shapes.d)
    return TrainState(
        step=np.int32(0),
        g=g,
        d=d,
        ema=g.variables,
        posthoc_ema={name: g.variables for name in shapes.posthoc_ema},
        running=jax.tree.map(np.float32, {name: running for name, running in recipe.running.items() if running}),
    )


def run(recipe: Recipe, steps: int = 1, devices: Devices | None = None, per_dispatch: int = 1, start=None):
    """Returns the state after `steps` updates and a list of metrics, all on the host.

    Args:
      devices: None: `jax.jit(train_step)`, without any axis of devices.
      per_dispatch: with devices, the updates in one call.
      start: the state before; None: `initial_state`.
    """
    state, data, metrics = start or initial_state(recipe), random_batches(recipe, steps), []
    if devices is not None:
        step, count = parallelize(recipe, devices), len(devices.devices)
        state = devices.replicate(state)
    for first in range(0, steps, per_dispatch):
        if devices is None:
            state, means = jitted_step(recipe, state, jax.tree.map(lambda x, i=first: x[i], data), KEY)
        else:
            batch = jax.tree.map(lambda x, i=first: x[i : i + per_dispatch], data)
            state, means = step(state, devices.put_batch(split_batches(batch, count)), KEY)
            assert_replicated((state, means))
        metrics.append(jax.device_get(means))
    return jax.device_get(state), metrics


def relative_distance(a, b) -> float:
    """Returns |a - b| / |a| of two trees, in the Euclidean norm of all their numbers."""
    a, b = (np.concatenate([np.ravel(np.float64(x)) for x in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))
