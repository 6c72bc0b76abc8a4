"""What a config needs of a TPU or GPU, before there is one: the real training step, compiled without the hardware.

    python -m jaxgan.plan --config=configs/cifar_sngan.py --topology=v5e:2x4 [--batch_size=512] [--thorough]

A TPU's compiler is the package libtpu, the extra `plan`; a topology is a generation and the shape of its slice in
chips, such as v5e:2x4 (v5e-8) or v4:2x2x4 (v4-32, named after its cores). A GPU's, such as h100:8, comes with the extra
`cuda`. Memory, collectives and precision are read from the compiled program; the floating-point operations are the
algorithm's own, of its matrix products and convolutions.
"""

import math
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import config_flags

from jaxgan.commands import app as cli
from jaxgan.core.errors import RunFailed
from jaxgan.core.parallel import AXIS, Devices
from jaxgan.gan.state import create_state, make_nets
from jaxgan.gan.step import make_update, real_batches_per_step, scan_steps
from jaxgan.ops import flops
from jaxgan.planning.chips import GIB, Chip, target_of
from jaxgan.planning.program import Program, read_program
from jaxgan.settings import images_per_step
from jaxgan.training.check import check

MIB = 2**20


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
        """Of a step at the chip's peaks, computing or moving the bytes of this program, whichever is longer."""
        return max(self.flops / self.chip.flops, self.program.bytes / self.chip.bandwidth)


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
      config: of which one step is compiled, whatever `steps_per_call`.
      thorough: compile as a run would; otherwise with the least effort, in a fraction of the time, which may need more
        memory.

    Returns:
      None if the chip's memory does not suffice.
    """
    config = config.copy_and_resolve_references()
    config.steps_per_call = 1
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
        flops=flops.count(step, *arguments),
        compile_seconds=seconds,
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
    lines = {
        "step": f"batch {planned.batch_size} on {planned.num_devices} x {chip.name}, "
        f"{planned.batch_size // planned.num_devices} a device, {config.dtype}",
        "compiled in": f"{planned.compile_seconds:.0f} s",
        "memory": f"{planned.peak_bytes / GIB:.2f} of {chip.bytes / GIB:.0f} GiB a device at its peak",
        "largest batch": f"{largest.batch_size}, {largest.peak_bytes / GIB:.2f} GiB a device" if largest else "",
        "donation": f"{planned.donated_bytes / MIB:.1f} of the state's {planned.state_bytes / MIB:.1f} MiB in place",
        "operations": f"{planned.flops * planned.num_devices / images / 1e9:.2f} GFLOP an image, "
        f"{planned.flops * planned.num_devices / 1e12:.3f} TFLOP a step",
        "bytes": f"{program.bytes / 1e9:.2f} GB a step and device",
        "all-reduces": f"{program.all_reduces:g} a step, {program.all_reduce_bytes / MIB:.1f} MiB; "
        f"{program.all_gathers:g} all-gathers",
        "convolutions": f"{program.convolutions:g} and matrix products a step, "
        f"{program.convolutions_float32:g} of them of float32",
        "at best": f"{1e3 * planned.seconds:.2f} ms a step, {images / planned.seconds:,.0f} images/s, these bytes "
        f"and operations at once, at {chip.flops / 1e12:g} TFLOP/s and {chip.bandwidth / 1e9:g} GB/s a device",
    }
    return "\n".join(f"  {name:14} {text}" for name, text in lines.items() if text)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")  # where the compiler runs, not what it compiles for
    jax.config.update("jax_enable_compilation_cache", False)  # programs for absent hardware cannot be read back
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
