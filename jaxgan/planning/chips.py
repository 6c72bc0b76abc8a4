"""TPUs and GPUs: their published peaks, and descriptions that a compiler takes for devices that are not here."""

import importlib.util
import math
import os
import pathlib
import re
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from jaxgan.core.errors import ConfigError, require

GIB = 2**30


class Gpu(NamedTuple):
    """What XLA's compiler for NVIDIA GPUs has to know, as in the device properties of CUDA."""

    capability: tuple[int, int]
    multiprocessors: int
    threads: int  # resident on a multiprocessor
    shared_bytes: int  # shared memory of a multiprocessor; a block may use 1 KiB less
    l2_bytes: int
    ghz: float


class Chip(NamedTuple):
    """Published peaks of what JAX calls one device."""

    name: str
    flops: float  # per second, dense matrix products of bfloat16
    bytes: float  # memory
    bandwidth: float  # of the memory, bytes per second
    gpu: Gpu | None = None  # None: a TPU


# cloud.google.com/tpu/docs, "System architecture"; a device of v2 and v3 is one of a chip's two cores. NVIDIA's data
# sheets.
CHIPS = {
    "v2": Chip("TPU v2 (a core)", 23e12, 8 * GIB, 350e9),
    "v3": Chip("TPU v3 (a core)", 61.5e12, 16 * GIB, 450e9),
    "v4": Chip("TPU v4", 275e12, 32 * GIB, 1200e9),
    "v5e": Chip("TPU v5e", 197e12, 16 * GIB, 819e9),
    "v5p": Chip("TPU v5p", 459e12, 95 * GIB, 2765e9),
    "v6e": Chip("TPU v6e", 918e12, 32 * GIB, 1640e9),
    "l4": Chip("L4", 121e12, 24e9, 300e9, Gpu((8, 9), 58, 1536, 100 << 10, 48 << 20, 2.04)),
    "l40s": Chip("L40S", 362e12, 48e9, 864e9, Gpu((8, 9), 142, 1536, 100 << 10, 96 << 20, 2.52)),
    "a100": Chip("A100 80GB", 312e12, 80e9, 2039e9, Gpu((8, 0), 108, 2048, 164 << 10, 40 << 20, 1.41)),
    "h100": Chip("H100 SXM", 989e12, 80e9, 3352e9, Gpu((9, 0), 132, 2048, 228 << 10, 50 << 20, 1.98)),
    "h200": Chip("H200 SXM", 989e12, 141e9, 4800e9, Gpu((9, 0), 132, 2048, 228 << 10, 60 << 20, 1.98)),
}


def chip_of(device_kind: str) -> Chip | None:
    """Returns what is known of a device that JAX calls so, None if it is none of `CHIPS`.

    Example:
      >>> chip_of("NVIDIA H100 80GB HBM3").name, chip_of("TPU v5 lite").name, chip_of("cpu")
      ('H100 SXM', 'TPU v5e', None)
    """
    names = {"TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e"}
    word = re.match(r"(?:NVIDIA |TPU )?(\w*)", device_kind)[1].lower()
    return CHIPS.get(names.get(device_kind, word))


def measured_flops(size: int = 1024, repeats: int = 20) -> float:
    """Returns the operations a second of a matrix product of float32 [size, size] on the first device, at best."""
    product = jax.jit(jnp.matmul)
    x = jnp.ones((size, size))
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return 2.0 * size**3 / min(seconds)


class Target(NamedTuple):
    """Devices that are not here, and how to compile for them."""

    chip: Chip
    devices: list
    options: dict  # compiler options


def resolve_topology(topology: str) -> Target:
    """Returns the devices of a topology.

    Args:
      topology: a slice of TPUs such as "v5e:2x4", or GPUs such as "h100:8", or "h100:2x8" on two hosts.

    Raises:
      ConfigError: there is no such topology, or no compiler for it here.
    """
    name, _, shape = topology.partition(":")
    require(name in CHIPS, "topology", topology, f"begins with none of {', '.join(CHIPS)}")
    chip = CHIPS[name]
    dims = [int(d) for d in shape.split("x") if d.isdecimal()]
    example, package = ("8 or 2x8 (hosts x GPUs)", "cuda") if chip.gpu else ("2x2, or v4:2x2x4", "plan")
    if not all(dims) or len(dims) != len(shape.split("x")) or len(dims) > (2 if chip.gpu else 3):
        raise ConfigError(f"topology={topology!r}: write the devices as in {name}:{example}")
    describe = _describe_gpus if chip.gpu else _describe_tpus
    try:
        described, options = describe(topology, chip, dims)
        return Target(chip, list(described.devices), options)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no compiler"
        raise ConfigError(
            f"topology={topology!r}: {reason} (needs the compiler, pip install 'jaxgan[{package}]', and devices that "
            f"exist, such as {name}:{example})"
        ) from error


def _describe_tpus(topology: str, chip: Chip, dims: list[int]):
    """Asks libtpu, which these variables keep from asking the network where it is and from claiming the machine's TPU.

    They do not affect the program.
    """
    alone = dict(TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost", TPU_WORKER_ID="0")
    for key, value in (alone | dict(TPU_ACCELERATOR_TYPE="v5litepod-8", ALLOW_MULTIPLE_LIBTPU_LOAD="1")).items():
        os.environ.setdefault(key, value)
    options = {}
    if math.prod(dims) < 4:  # less than a host has: say so
        options["chips_per_host_bounds"] = tuple((*dims, 1, 1)[:3])
    if chip is CHIPS["v4"]:  # both cores of a chip as one device, as JAX has it there
        options["chip_config_name"] = "megacore"
    return topologies.get_topology_desc(platform="tpu", topology_name=topology, **options), {}


def _describe_gpus(topology: str, chip: Chip, dims: list[int]):
    """Asks XLA's compiler for CUDA, which takes the GPU's properties as text."""
    gpu = chip.gpu
    facts = dict(
        threads_per_block_limit=1024,
        threads_per_warp=32,
        threads_per_core_limit=gpu.threads,
        core_count=gpu.multiprocessors,
        fpus_per_core=128 if gpu.capability > (8, 0) else 64,
        shared_memory_per_block=48 << 10,
        shared_memory_per_block_optin=gpu.shared_bytes - (1 << 10),
        shared_memory_per_core=gpu.shared_bytes,
        registers_per_block_limit=65536,
        registers_per_core_limit=65536,
        block_dim_limit_x=2**31 - 1,
        block_dim_limit_y=65535,
        block_dim_limit_z=65535,
        l2_cache_size=gpu.l2_bytes,
        memory_bandwidth=int(chip.bandwidth),
        device_memory_size=int(chip.bytes),
        clock_rate_ghz=gpu.ghz,
    )
    lines = [f"  {key}: {value}" for key, value in facts.items()]
    lines.append("  cuda_compute_capability {{ major: {} minor: {} }}".format(*gpu.capability))
    config = "gpu_device_info {\n" + "\n".join(lines) + '\n}\nplatform_name: "CUDA"\n'
    config += "dnn_version_info { major: 9 minor: 8 patch: 0 }\n"
    hosts, count = (1, *dims)[-2:]
    described = topologies.get_topology_desc(platform="cuda", target_config=config, topology=f"1x{hosts}x{count}")
    options = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}  # both would need the GPU
    nvidia = importlib.util.find_spec("nvidia")  # where pip puts NVIDIA's compiler
    for directory in nvidia.submodule_search_locations if nvidia else ():
        for tools in pathlib.Path(directory).glob("cu*/bin"):
            if str(tools) not in os.environ["PATH"].split(os.pathsep):
                os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
            options["xla_gpu_cuda_data_dir"] = str(tools.parent)
    return described, options
