"""Says what a config needs of a TPU or GPU that is not here: jaxgan plan --config=cifar_sngan --topology=v5e:2x4

The real training step is compiled without the hardware, by the compiler of the extra `plan` (libtpu) or, for
GPUs, `cuda`. A topology is a generation and the shape of its slice in chips, such as v5e:2x4 (v5e-8) or
v4:2x2x4 (v4-32, named after its cores), or GPUs such as h100:8, or h100:2x8 on two hosts.
"""

from absl import flags

from jaxgan.commands import app
from jaxgan.core.errors import RunFailed

FLAGS = flags.FlagValues()
flags.DEFINE_string("config", None, "A packaged config, such as cifar or cifar:unconditional, or FILE.py.", FLAGS)
flags.DEFINE_string("topology", None, "Devices to compile for, such as v5e:2x4.", FLAGS)
flags.DEFINE_bool("search", True, "Look for the largest batch that fits, by further compilations.", FLAGS)
flags.DEFINE_bool("thorough", False, "Compile with full effort, as a run would: takes much longer.", FLAGS)


@app.command(FLAGS, required=["config", "topology"])
def main(flags, config) -> None:
    import jax

    from jaxgan.gan.recipe import recipe_from_config
    from jaxgan.planning import plan, size
    from jaxgan.planning.chips import resolve_topology

    jax.config.update("jax_platforms", "cpu")  # where the compiler runs, not what it compiles for
    jax.config.update("jax_enable_compilation_cache", False)  # programs for absent hardware cannot be read back
    recipe = recipe_from_config(config)
    with app.naming_flags(["topology"]):
        target = resolve_topology(flags.topology)
        recipe = size.divide(recipe, config.accumulate, len(target.devices), target.chip.bytes)
        planned = plan.plan(recipe, flags.topology, flags.thorough)
    largest = None
    if flags.search:
        largest = plan.largest_batch(recipe, planned, flags.topology, flags.thorough)
    if planned is None:
        tried = f"config.batch_size={recipe.batch_size}: does not fit into {flags.topology}"
        raise RunFailed(f"{tried}; {largest.batch_size} does" if largest else tried)
    print(plan.report(planned, largest, config.eval.metrics))
