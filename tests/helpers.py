"""What several test files need besides the fixtures of conftest."""

import functools
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.models import MODELS
from jaxgan.sampling.generator import Generator

ROOT = pathlib.Path(__file__).parents[1]


def environment(devices: int = 1, **variables: str) -> dict[str, str]:
    """Returns the environment of a subprocess that imports jaxgan and tests from here and has so many CPU devices."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
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
