"""What a config needs of a TPU or GPU, before there is one: the real training step, compiled without the hardware.

    python -m jaxgan.plan --config=configs/cifar_sngan.py --topology=v5e:2x4 [--batch_size=512] [--thorough]

A TPU's compiler is the package libtpu, the extra `plan`; a topology is a generation and the shape of its slice in
chips, such as v5e:2x4 (v5e-8) or v4:2x2x4 (v4-32, named after its cores). A GPU's, such as h100:8, comes with the extra
`cuda`. Memory, collectives and precision are read
from the compiled program; the floating-point operations are the algorithm's own, of its matrix products and
convolutions.
"""

import importlib.util
import math
import os
import pathlib
import re
import time
from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import config_flags

from jaxgan import cli
from jaxgan.check import check
from jaxgan.config import ConfigError, RunFailed, images_per_step, lookup
from jaxgan.ops import flops
from jaxgan.parallel import AXIS, Devices
from jaxgan.state import create_state, make_nets
from jaxgan.update import make_update, real_batches_per_step, scan_steps

MIB, GIB = 2**20, 2**30


class Gpu(NamedTuple):
    """What NVIDIA's compiler asks of a GPU, as its device properties have it."""

    capability: tuple[int, int]
    multiprocessors: int
    threads: int  # of a multiprocessor
    shared_bytes: int  # of a multiprocessor; a block may have 1 KiB less
    l2_bytes: int
    ghz: float


class Chip(NamedTuple):
    """Published peaks of what JAX calls one device: dense bfloat16 products, memory and its bandwidth."""

    name: str
    flops: float  # per second
    bytes: float
    bandwidth: float  # bytes per second
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
}


class Program(NamedTuple):
    """What a compiled step does on one device, each loop's body as often as it runs."""

    bytes: float  # to and from memory, by operations that are not fused into another
    all_reduces: int
    all_reduce_bytes: float
    all_gathers: int
    convolutions: int
    convolutions_float32: int


class Plan(NamedTuple):
    """A training step on one topology; memory and operations are those of one device."""

    batch_size: int
    num_devices: int
    chip: Chip
    program: Program
    peak_bytes: float
    state_bytes: float
    donated_bytes: float  # of the state, whose memory the new state takes over
    flops: float
    compile_seconds: float

    @property
    def seconds(self) -> float:
        """Of a step at the chip's peaks, computing or moving bytes, whichever is longer: none is faster."""
        return max(self.flops / self.chip.flops, self.program.bytes / self.chip.bandwidth)


class Target(NamedTuple):
    """Devices that need not exist, and how to compile for them."""

    chip: Chip
    devices: list
    options: dict  # for the compiler


def target_of(topology: str) -> Target:
    """A slice of TPUs such as "v5e:2x4", or GPUs such as "h100:8", or "h100:2x8" on two hosts."""
    name, _, shape = topology.partition(":")
    chip = lookup(CHIPS, name, "--topology (before the colon)")
    dims = [int(d) for d in shape.split("x") if d.isdecimal()]
    example, package = ("8 or 2x8 (hosts x GPUs)", "cuda") if chip.gpu else ("2x2, or v4:2x2x4,", "plan")
    if not all(dims) or len(dims) != len(shape.split("x")) or len(dims) > (2 if chip.gpu else 3):
        raise ConfigError(f"--topology={topology}: write the devices as in {name}:{example}")
    describe = _describe_gpus if chip.gpu else _describe_tpus
    try:
        described, options = describe(topology, chip, dims)
        return Target(chip, list(described.devices), options)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no compiler"
        raise ConfigError(
            f"--topology={topology}: {reason} (needs the compiler, pip install 'jaxgan[{package}]', and devices that "
            f"exist, such as {name}:{example})"
        ) from error


def _describe_tpus(topology: str, chip: Chip, dims: list[int]):
    # Only what keeps libtpu from asking the network where it is; nothing of it reaches the program.
    quiet = dict(TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost", TPU_WORKER_ID="0")
    for key, value in (quiet | dict(TPU_ACCELERATOR_TYPE="v5litepod-8")).items():
        os.environ.setdefault(key, value)
    options = {}
    if math.prod(dims) < 4:  # less than a host has: say so
        options["chips_per_host_bounds"] = tuple((*dims, 1, 1)[:3])
    if chip is CHIPS["v4"]:  # both cores of a chip as one device, as JAX has it there
        options["chip_config_name"] = "megacore"
    return topologies.get_topology_desc(platform="tpu", topology_name=topology, **options), {}


def _describe_gpus(topology: str, chip: Chip, dims: list[int]):
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
    options = {"xla_gpu_autotune_level": 0}  # which would need the GPU
    for directory in importlib.util.find_spec("nvidia").submodule_search_locations:  # where pip puts NVIDIA's compiler
        for tools in pathlib.Path(directory).glob("cu*/bin"):
            os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
            options["xla_gpu_cuda_data_dir"] = str(tools.parent)
    return described, options


def abstract_arguments(config, nets, devices: Devices) -> tuple:
    """State, batch and key of a call of the step, as shapes."""

    def place(tree, spec):
        sharding = NamedSharding(devices.mesh, spec)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: create_state(nets, key), key)
    count, size = len(devices.devices), config.data.image_size
    shape = count, config.steps_per_call, real_batches_per_step(config), config.batch_size // count
    images = jax.ShapeDtypeStruct((*shape, size, size, nets.g.image_channels), jnp.uint8)
    batch = {"images": images, "labels": jax.ShapeDtypeStruct(shape, jnp.int32)}
    return place(state, P()), place(batch, P(AXIS)), place(key, P())


def plan(config, topology: str, thorough: bool = False) -> Plan | None:
    """Compiles the training step of `config` for a topology.

    Args:
      thorough: compile as a run would; otherwise with the least effort, in a fraction of the time: the same operations
        and collectives, with up to a third more memory for what is between them.

    Returns:
      None if the chip's memory does not suffice.
    """
    chip, slots, options = target_of(topology)
    check(config, len(slots))
    devices, nets = Devices("shard_map", slots), make_nets(config)  # pmap's program is equal, but of one host only
    step = devices.parallelize(scan_steps(make_update(config, nets)))
    arguments = abstract_arguments(config, nets, devices)
    if not thorough:
        options |= {"exec_time_optimization_effort": -1.0, "memory_fitting_effort": -1.0}
    start = time.perf_counter()
    try:
        compiled = step.lower(*arguments).compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    return Plan(
        config.batch_size,
        len(slots),
        chip,
        read_program(compiled.as_text()),
        peak_bytes=memory.peak_memory_in_bytes or memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        state_bytes=sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arguments[0])),
        donated_bytes=memory.alias_size_in_bytes,
        flops=flops.count(step, *arguments) / config.steps_per_call,
        compile_seconds=seconds,
    )


_ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s64": 8, "u64": 8, "f64": 8}
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"}


def _size(shape: str) -> float:
    """Bytes in main memory of a shape as HLO writes it, such as (f32[8,128]{1,0:T(8,128)}, bf16[2]{0:S(1)})."""
    total = 0
    for kind, dims, layout in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?", shape):
        if "S(" not in layout:  # S(1) and above: on the chip
            total += _ITEM_BYTES.get(kind, 4) * math.prod(int(d) for d in dims.split(",") if d)
    return total


def read_program(text: str) -> Program:
    """Counts of a compiled program, `compiled.as_text()`."""
    bodies, entry, body = {}, None, None
    instruction = re.compile(r"\s+(?:ROOT )?%?(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*)")
    for line in text.splitlines():
        if found := re.match(r"(ENTRY )?%?(\S+) .*\{$", line):
            body = bodies[found[2]] = []
            entry = found[2] if found[1] else entry
        elif body is not None and (found := instruction.match(line)):
            body.append(found.groups())

    counts = Counter()

    def trips(attributes: str) -> int:
        """How often a loop runs: as the compiler says, or the one number that the counter is compared with."""
        if known := re.search(r'known_trip_count"?:\{"n":"(\d+)"', attributes):
            return int(known[1])
        condition = bodies[re.search(r"condition=%?([\w.-]+)", attributes)[1]]
        numbers = [rest.partition(")")[0] for _, shape, op, rest in condition if op == "constant" and "s32" in shape]
        return int(numbers[0]) if len(numbers) == 1 else 1

    def walk(name: str, times: int, fused: bool) -> None:
        shapes = {value: shape for value, shape, _, _ in bodies[name]}
        for value, shape, op, rest in bodies[name]:
            operands, _, attributes = rest.partition(")")
            names = re.findall(r"%([^\s,]+)", operands)
            if op in ("convolution", "dot") or re.search(r'custom_call_target="__cu(dnn|blas)', attributes):
                counts["convolutions"] += times
                counts["convolutions_float32"] += times * any(shapes.get(n, "").startswith("f32") for n in names)
            for kind in ("all-reduce", "all-gather"):
                if op in (kind, f"{kind}-start"):
                    counts[kind] += times
                    counts[f"{kind} bytes"] += times * _size(shape)
            if not fused and op not in _FREE and not op.endswith("-done"):
                counts["bytes"] += times * sum(_size(shapes.get(n, "")) for n in (value, *names))
            for inner in re.findall(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.-]+)", rest):
                if op not in ("reduce", "all-reduce", "all-reduce-start", "reduce-window", "scatter", "sort", "map"):
                    walk(inner, times * (trips(attributes) if op == "while" else 1), fused or op == "fusion")

    walk(entry, 1, False)
    return Program(
        counts["bytes"],
        counts["all-reduce"],
        counts["all-reduce bytes"],
        counts["all-gather"],
        counts["convolutions"],
        counts["convolutions_float32"],
    )


def largest_batch(config, first: Plan | None, topology: str, thorough: bool = False) -> Plan | None:
    """The plan of the largest batch that fits, within 4 per cent, found by compiling; None if none does.

    Memory is linear in the batch, nearly: a guess is where the line through the last two that fit meets the chip's.
    """
    count = len(target_of(topology).devices)

    def at(batch: int) -> Plan | None:
        trial = config.copy_and_resolve_references()
        trial.batch_size = batch
        return plan(trial, topology, thorough)

    fits, fails = first, math.inf
    if fits is None:
        fits, fails = at(count), config.batch_size
    below = None
    while fits and fails - fits.batch_size > max(count, 0.04 * fits.batch_size):
        limit = 0.98 * fits.chip.bytes
        if fits.peak_bytes > 0.98 * limit:
            break
        guess = 2.0 * fits.batch_size
        if below:
            slope = (fits.peak_bytes - below.peak_bytes) / (fits.batch_size - below.batch_size)
            guess = min(8.0 * fits.batch_size, fits.batch_size + (limit - fits.peak_bytes) / max(slope, 1.0))
        if guess >= fails:
            guess = (fits.batch_size + fails) / 2
        guess = max(fits.batch_size + count, int(guess) // count * count)
        if planned := at(guess):
            below, fits = fits, planned
        else:
            fails = guess
    return fits


def report(config, planned: Plan, largest: Plan | None) -> str:
    """The plan as lines to read."""
    program, chip, images = planned.program, planned.chip, images_per_step(config)
    steps = config.steps_per_call
    lines = {
        "step": f"batch {planned.batch_size} on {planned.num_devices} x {chip.name}, "
        f"{planned.batch_size // planned.num_devices} a device, {config.dtype}",
        "compiled in": f"{planned.compile_seconds:.0f} s",
        "memory": f"{planned.peak_bytes / GIB:.2f} of {chip.bytes / GIB:.0f} GiB a device at its peak",
        "largest batch": f"{largest.batch_size}, {largest.peak_bytes / GIB:.2f} GiB a device" if largest else "",
        "donation": f"{planned.donated_bytes / MIB:.1f} of the state's {planned.state_bytes / MIB:.1f} MiB in place",
        "operations": f"{planned.flops * planned.num_devices / images / 1e9:.2f} GFLOP an image, "
        f"{planned.flops * planned.num_devices / 1e12:.3f} TFLOP a step",
        "bytes": f"{program.bytes / steps / 1e9:.2f} GB a step and device",
        "all-reduces": f"{program.all_reduces / steps:g} a step, {program.all_reduce_bytes / steps / MIB:.1f} MiB; "
        f"{program.all_gathers / steps:g} all-gathers",
        "convolutions": f"{program.convolutions / steps:g} and matrix products a step, "
        f"{program.convolutions_float32 / steps:g} of them of float32",
        "at best": f"{1e3 * planned.seconds:.2f} ms a step, {images / planned.seconds:,.0f} images/s, these bytes "
        f"and operations at once, at {chip.flops / 1e12:g} TFLOP/s and {chip.bandwidth / 1e9:g} GB/s a device",
    }
    return "\n".join(f"  {name:14} {text}" for name, text in lines.items() if text)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")  # where the compiler runs, not what it compiles for
    config = _CONFIG.value.copy_and_resolve_references()
    config.batch_size = _BATCH_SIZE.value or config.batch_size
    planned = plan(config, _TOPOLOGY.value, _THOROUGH.value)
    largest = largest_batch(config, planned, _TOPOLOGY.value, _THOROUGH.value) if _SEARCH.value else None
    if planned is None:
        target = target_of(_TOPOLOGY.value)
        tried = f"config.batch_size={config.batch_size}: does not fit into {len(target.devices)} x {target.chip.name}"
        raise RunFailed(f"{tried}; {largest.batch_size} does" if largest else tried)
    print(report(config, planned, largest))


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, such as configs/cifar.py.")
    _TOPOLOGY = flags.DEFINE_string("topology", None, "Slice to compile for, such as v5e:2x4.")
    _BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "Instead of config.batch_size.")
    _SEARCH = flags.DEFINE_boolean("search", True, "Look for the largest batch that fits, by further compilations.")
    _THOROUGH = flags.DEFINE_boolean("thorough", False, "Compile with full effort, as a run would: takes much longer.")
    flags.mark_flags_as_required(["config", "topology"])
    cli.run(main)
