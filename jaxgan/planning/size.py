"""What a training run takes, by arithmetic alone: nothing is compiled."""

import math
from collections.abc import Iterable, Sequence

import jax

from jaxgan.core.errors import ConfigError, require
from jaxgan.core.memory import describe_bytes, tree_bytes
from jaxgan.core.words import format_duration
from jaxgan.data.batches import batch_spec
from jaxgan.evaluation.features import FeatureExtractor
from jaxgan.evaluation.networks import abstract
from jaxgan.evaluation.registry import METRICS
from jaxgan.gan.recipe import Recipe
from jaxgan.gan.state import init_state, parameter_counts, state_bytes
from jaxgan.gan.step import train_step
from jaxgan.ops import flops
from jaxgan.planning.chips import chip_of, measured_flops
from jaxgan.planning.liveness import peak_bytes


def step_shapes(recipe: Recipe) -> tuple:
    """Returns state, batch and key of a step on one device, as shapes."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = batch_spec(recipe, recipe.image_shape)
    batch = {name: jax.ShapeDtypeStruct(x.shape[2:], x.dtype) for name, x in batch.items()}
    return jax.eval_shape(init_state, recipe, key), batch, key


def operations_per_image(recipe: Recipe) -> float:
    """Returns how many operations a real image costs, lazy penalties in their share of the steps; see ops/flops.py."""

    def count(recipe):
        return flops.count(train_step, recipe, *step_shapes(recipe))

    nets = {"penalties_d": recipe.penalties_d, "penalties_g": recipe.penalties_g}
    always = {net: {k: p for k, p in table.items() if p.interval == 1} for net, table in nets.items()}
    recipe = recipe.replace(**always)
    total = base = count(recipe)
    for net, table in nets.items():
        for name, penalty in table.items():
            if penalty.interval > 1:
                with_it = recipe.replace(**{net: always[net] | {name: penalty}})
                total += (count(with_it) - base) / penalty.interval
    return total / recipe.images_per_step


def step_bytes(recipe: Recipe, num_devices: int = 1) -> int:
    """Returns about how much memory a step takes on each of these devices, and rather too much; see `peak_bytes`."""
    local = recipe.replace(batch_size=recipe.batch_size // num_devices)
    return state_bytes(local) + peak_bytes(train_step, local, *step_shapes(local))


def scores_bytes(recipe: Recipe, metrics: Iterable[str], num_devices: int = 1, on_cpu: bool = False) -> int:
    """Returns about how much memory the scores of a run take on each of these devices; see `peak_bytes`.

    That is the state, the networks of these metrics, and the features of as many samples as a step takes at once. To
    make the samples, and what D says of them, are parts of a step.

    Args:
      on_cpu: whether the devices are a CPU, which some networks take fewer images on.
    """
    names = {METRICS[metric].features for metric in metrics}
    networks = {network: abstract(network) for network in {name.partition("/")[0] for name in names}}
    if not on_cpu:
        networks = {name: network._replace(cpu_batch=0) for name, network in networks.items()}
    extractor = FeatureExtractor(networks, names)
    images = jax.ShapeDtypeStruct((recipe.images_at_once(num_devices), *recipe.image_shape), "uint8")
    peak = peak_bytes(extractor.features, extractor.variables, images)
    return state_bytes(recipe) + tree_bytes(extractor.variables) + peak


def divide(recipe: Recipe, accumulate: int, num_devices: int, there: float = math.inf) -> Recipe:
    """Returns the recipe whose step takes a device's share of the batch in `accumulate` parts.

    Args:
      accumulate: config.accumulate; 0: as few parts as take at most nine tenths of a device's memory.
      there: that memory in bytes, such as `jaxgan.core.memory.device_bytes` says.

    Raises:
      ConfigError: the share has no such parts, or not even one image at a time fits.
    """
    local = recipe.batch_size // num_devices
    if accumulate:
        require(local % accumulate == 0, "config.accumulate", accumulate, f"must divide the {local} images of a device")
        return recipe.replace(accumulate=accumulate)
    for parts in (n for n in range(1, local + 1) if local % n == 0):
        smaller = recipe.replace(accumulate=parts)
        if step_bytes(smaller, num_devices) <= 0.9 * there:
            return smaller
    right = f"not even one image at a time fits into the {describe_bytes(there)} of a device; choose narrower nets"
    raise ConfigError(f"config.accumulate=0: {right}")


def report(recipe: Recipe, kimg: float, devices: list, metrics: Sequence[str] = ()) -> str:
    """Returns in lines what a run of so many kimg takes on these devices, with the scores of these metrics."""
    state = step_shapes(recipe)[0]
    g, d = (net.params for net in (state.g, state.d))
    parameters = parameter_counts(recipe)
    gradients = tree_bytes((g, d))
    size, operations, chip = state_bytes(recipe), operations_per_image(recipe), chip_of(devices[0].device_kind)
    total = 1e3 * kimg * operations
    in_all = f"{total / 1e18:,.3g} EFLOP" if total > 1e17 else f"{total / 1e12:,.0f} TFLOP"
    lines = {
        "generator": f"{parameters[0]:,} parameters",
        "discriminator": f"{parameters[1]:,} parameters",
        "state": f"{describe_bytes(size)}: parameters, moments of the optimizers, averages",
        "memory": f"{describe_bytes(size + gradients)} to {describe_bytes(step_bytes(recipe, len(devices)))} a device: "
        f"state, gradients, and the activations of {recipe.images_at_once(len(devices))} images",
        "operations": f"{operations / 1e9:,.3g} GFLOP an image, {in_all} in {kimg:,g} kimg",
    }
    if chip:
        flops_a_second = chip.flops * len(devices)
        speed = f"the peak of {len(devices)} x {chip.name}, {chip.flops / 1e12:g} TFLOP/s in bfloat16"
    else:  # CPUs, of which all devices share the cores, and accelerators that we know nothing of
        flops_a_second = measured_flops()
        speed = f"the {flops_a_second / 1e9:,.3g} GFLOP/s that a matrix product of float32 reaches here now"
    seconds = 1e3 * operations / flops_a_second
    lines["time"] = f"at best {seconds:.3g} s a kimg, {format_duration(seconds * kimg)} in all, at {speed}"
    if metrics:
        scored = scores_bytes(recipe, metrics, len(devices), devices[0].platform == "cpu")
        lines["scores"] = f"about {describe_bytes(scored)} a device: state, networks, features of as many images"
    return "\n".join(f"  {name:14} {text}" for name, text in lines.items())
