"""A training step compiled for devices that are not here, and what it needs of them.

Memory, collectives and precision are read from the compiled program; the FLOPs are those of the algorithm's matrix
products and convolutions, before a compiler changes them.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgan.core.memory import tree_bytes
from jaxgan.core.parallel import AXIS, Devices
from jaxgan.data.batches import batch_spec
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import init_state
from jaxgan.gan.step import scan_steps
from jaxgan.ops import flops
from jaxgan.planning.chips import GIB, Chip, resolve_topology
from jaxgan.planning.hlo import HloStats, read_hlo
from jaxgan.planning.size import scores_bytes

MIB = 2**20


class Plan(NamedTuple):
    """One training step on a topology; memory and FLOPs are those of one device."""

    recipe: Recipe
    num_devices: int
    chip: Chip
    hlo: HloStats
    peak_bytes: float
    state_bytes: float
    donated_bytes: float  # of the state, whose memory the new state takes over
    flops: float
    compile_seconds: float

    @property
    def batch_size(self) -> int:
        """Global batch size."""
        return self.recipe.batch_size

    @property
    def roofline_seconds(self) -> float:
        """Time of a step at the chip's peaks: computing, or moving this program's bytes, whichever takes longer."""
        return max(self.flops / self.chip.flops, self.hlo.bytes / self.chip.bandwidth)


def abstract_arguments(recipe: Recipe, devices: Devices) -> tuple:
    """Returns recipe, state, batch and key of a dispatch of one step, as shapes placed on the devices."""

    def place(tree, spec):
        sharding = NamedSharding(devices.mesh, spec)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    recipe = jax.tree.map(jnp.asarray, recipe.on_axis(AXIS))
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(init_state, recipe, key)
    batch = batch_spec(recipe, recipe.image_shape, len(devices.devices))
    return place(recipe, P()), place(state, P()), place(batch, P(AXIS)), place(key, P())


def plan(recipe: Recipe, topology: str, thorough: bool = False) -> Plan | None:
    """Compiles a training step for a topology.

    Args:
      recipe: what to train and how; its batch size is global.
      topology: a generation of TPUs and the shape of a slice in chips, such as "v5e:2x4" (v5e-8) or "v4:2x2x4" (v4-32,
        named after its cores), or GPUs such as "h100:8".
      thorough: compile as a run would; otherwise with the least effort, in a fraction of the time, which may need more
        memory.

    Returns:
      The plan, or None if the memory of a device does not suffice.

    Raises:
      ConfigError: there is no such topology or no compiler for it, or the batch cannot be divided among its devices.

    Example:
      made = plan(recipe, "v5e:2x4")
      made.peak_bytes / 2**30
      0.12
    """
    target = resolve_topology(topology)
    devices = Devices("shard_map", target.devices)  # pmap's program is equal, but for one host only
    step, arguments = devices.parallelize(scan_steps), abstract_arguments(recipe, devices)
    options = dict(target.options)
    if not (thorough or target.chip.gpu):  # the compiler for GPUs has no such options
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
        recipe,
        len(target.devices),
        target.chip,
        read_hlo(compiled.as_text()),
        peak_bytes=memory.peak_memory_in_bytes or memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        state_bytes=tree_bytes(arguments[1]),
        donated_bytes=memory.alias_size_in_bytes,
        flops=flops.count(step, *arguments),
        compile_seconds=seconds,
    )


def largest_batch(recipe: Recipe, first: Plan | None, topology: str, thorough: bool = False) -> Plan | None:
    """Returns the plan of the largest batch that fits, within 4 per cent, found by compiling; None if none does.

    Memory is nearly linear in the batch: each guess is where the line through the last two batches that fit meets the
    memory of the chip.

    Args:
      recipe: whose batch size is the first guess.
      first: its plan, as `plan` returned it.
      topology: see `plan`.
      thorough: see `plan`.
    """
    count = len(resolve_topology(topology).devices) * recipe.accumulate  # that batches are multiples of

    def at(batch: int) -> Plan | None:
        return plan(recipe.replace(batch_size=batch), topology, thorough)

    fits, fails = first, math.inf
    if fits is None:
        fits, fails = at(count), recipe.batch_size
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


def report(planned: Plan, largest: Plan | None = None, metrics: Sequence[str] = ()) -> str:
    """Returns a plan as lines to read, with the scores of these metrics."""
    hlo, chip, recipe, count = planned.hlo, planned.chip, planned.recipe, planned.num_devices
    images, dtype = recipe.images_per_step, jnp.dtype(recipe.generator.dtype).name
    seconds = planned.roofline_seconds
    lines = {
        "step": f"batch {recipe.batch_size} on {count} x {chip.name}, {recipe.batch_size // count} a device, {dtype}",
        "compiled in": f"{planned.compile_seconds:.0f} s",
        "memory": f"{planned.peak_bytes / GIB:.2f} of {chip.bytes / GIB:.0f} GiB a device at the peak of a step",
        "scores": f"about {scores_bytes(recipe, metrics, count) / GIB:.2f} GiB a device, by arithmetic"
        if metrics
        else "",
        "largest batch": f"{largest.batch_size}, {largest.peak_bytes / GIB:.2f} GiB a device" if largest else "",
        "donation": f"{planned.donated_bytes / MIB:.1f} of the state's {planned.state_bytes / MIB:.1f} MiB in place",
        "FLOPs": f"{planned.flops * count / images / 1e9:.2f} GFLOP an image, "
        f"{planned.flops * count / 1e12:.3f} TFLOP a step",
        "bytes": f"{hlo.bytes / 1e9:.2f} GB a step and device",
        "all-reduces": f"{hlo.all_reduces:g} a step, {hlo.all_reduce_bytes / MIB:.1f} MiB; "
        f"{hlo.all_gathers:g} all-gathers",
        "convolutions": f"{hlo.convolutions:g} including matrix products a step, {hlo.convolutions_float32:g} of them "
        "in float32",
        "roofline": f"{1e3 * seconds:.2f} ms a step, {images / seconds:,.0f} images/s at {chip.flops / 1e12:g} TFLOP/s "
        f"and {chip.bandwidth / 1e9:g} GB/s a device",
    }
    return "\n".join(f"  {name:14} {text}" for name, text in lines.items() if text)
