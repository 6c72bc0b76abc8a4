"""Programs read as text, errors, and (where libtpu is installed) real compilations for slices that are not there."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxgan
from jaxgan.core.errors import ConfigError
from jaxgan.core.parallel import AXIS, Devices
from jaxgan.gan.nets import rematerialise
from jaxgan.planning import chips, plan, size
from jaxgan.planning.hlo import HloStats, read_hlo
from jaxgan.planning.liveness import peak_bytes
from jaxgan.training.run import Run
from tests.helpers import tiny_recipe

KNOWN = ', backend_config={"known_trip_count":{"n":"5"}}'
PROGRAM = """HloModule step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%fused (p: bf16[8,16], q: bf16[16,4]) -> f32[8,4] {
  %p = bf16[8,16]{1,0:T(8,128)} parameter(0)
  %q = bf16[16,4]{1,0:T(8,128)} parameter(1)
  ROOT %product = f32[8,4]{1,0:T(8,128)} convolution(%p, %q), dim_labels=bf_io->bf
}

%cond (c: (s32[], f32[8,4])) -> pred[] {
  %c = (s32[], f32[8,4]{1,0}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%c), index=0
  %limit = s32[]{:T(128)} constant(5)
  ROOT %less = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

%body (s: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %s = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%s), index=1
  %w = f32[4,4]{1,0:T(8,128)S(1)} constant({...})
  %y = f32[8,4]{1,0:T(8,128)} convolution(%x, %w), dim_labels=bf_io->bf
  %z = f32[8,4]{1,0:T(8,128)} all-reduce(%y), replica_groups={{0,1}}, to_apply=%add
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%i, %z)
}

ENTRY %main (x: bf16[8,16], w: bf16[16,4]) -> f32[8,4] {
  %x.1 = bf16[8,16]{1,0:T(8,128)} parameter(0)
  %w.1 = bf16[16,4]{1,0:T(8,128)} parameter(1)
  %f = f32[8,4]{1,0:T(8,128)} fusion(%x.1, %w.1), kind=kOutput, calls=%fused
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,4]{1,0}) tuple(%zero, %f)
  %loop = (s32[], f32[8,4]{1,0}) while(%start), condition=%cond, body=%bodyKNOWN
  %g = (f32[8,4]{1,0}, f32[16,4]{1,0}) all-gather-start(%f), dimensions={0}
  %h = f32[16,4]{1,0} all-gather-done(%g)
  ROOT %out = f32[8,4]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
""".replace("KNOWN", KNOWN)


@pytest.mark.parametrize("text", [PROGRAM, PROGRAM.replace(KNOWN, "")])
def test_a_program_is_counted_with_its_loops(text):
    read = read_hlo(text)
    maps = 8 * 4 * 4  # bytes of f32[8,4]
    fusion = 8 * 16 * 2 + 16 * 4 * 2 + maps
    body = 2 * maps + 2 * maps  # the weight is on the chip
    gather = maps + 16 * 4 * 4 + maps
    assert read == HloStats(
        bytes=fusion + 5 * body + gather,
        all_reduces=5,
        all_reduce_bytes=5 * maps,
        all_gathers=1,
        convolutions=6,
        convolutions_float32=5,
    )


@pytest.mark.parametrize(
    "names", ["branch_computations={%fused, %fused}", "true_computation=%fused, false_computation=%fused"]
)
def test_all_branches_of_a_conditional_count(names):
    choice = f"  %choice = f32[8,4]{{1,0}} conditional(%p, %x.1, %w.1), {names}\n  ROOT %out"
    assert read_hlo(PROGRAM.replace("  ROOT %out", choice)).convolutions == 6 + 2


def test_a_program_of_this_machine():
    """Three averages in a loop and one after it; XLA may merge, but not lose, bytes."""

    def step(recipe, state, batch, key):
        state = lax.fori_loop(0, 3, lambda _, s: jnp.tanh(lax.pmean(s * batch.sum(), AXIS)), state)
        return state, lax.pmean(state * 2 + batch.mean(), AXIS)

    call = Devices("shard_map").parallelize(step)
    count = jax.device_count()
    text = call.lower({}, jnp.zeros(100), jnp.ones((count, 3)), jax.random.key(0)).compile().as_text()
    read = read_hlo(text)
    assert (read.all_reduces, read.all_reduce_bytes, read.all_gathers) == (4, 4 * 400, 0)


@pytest.mark.parametrize(
    ("topology", "error"),
    [
        ("v9:2x2", "topology='v9:2x2': begins with none of v2, v3, v4, v5e"),
        ("v5e", "topology='v5e': write the devices as in v5e:2x2"),
        ("v5e:7x9", r"topology='v5e:7x9': .*pip install 'jaxgan\[plan\]'"),
        ("v5e:0x4", "topology='v5e:0x4': write the devices"),
        ("h100:2x2x2", r"topology='h100:2x2x2': write the devices as in h100:8 or 2x8 \(hosts"),
    ],
)
def test_topologies_that_do_not_exist(topology, error):
    with pytest.raises(ConfigError, match=error):
        chips.resolve_topology(topology)


@pytest.fixture(scope="module")
def recipe():
    config = jaxgan.config("digits")
    config.model.g.channels = config.model.d.channels = (8, 8)
    config.penalty.r1.weight = 0.0
    return jaxgan.recipe_from_config(config)


@pytest.mark.parametrize(("start", "accumulate"), [(64, 1), (4096, 1), (100_000, 1), (64, 4), (100_000, 4)])
def test_the_largest_batch_is_found_within_four_per_cent(start, accumulate, recipe, monkeypatch):
    """The memory of this step is linear in its batch, as a real one's nearly is."""
    chip, tried = chips.CHIPS["v5e"], []

    def pretend(recipe, topology, thorough):
        tried.append(recipe.batch_size)
        peak = 1e9 + 3.7e6 * recipe.batch_size
        made = plan.Plan(recipe, 8, chip, HloStats(0, 0, 0, 0, 0, 0), peak, 0, 0, 0, 0)
        return made if peak < chip.bytes else None

    monkeypatch.setattr(plan, "plan", pretend)
    monkeypatch.setattr(plan, "resolve_topology", lambda topology: chips.Target(chip, [None] * 8, {}))
    most = (chip.bytes - 1e9) / 3.7e6
    recipe = recipe.replace(batch_size=start, accumulate=accumulate)
    found = plan.largest_batch(recipe, pretend(recipe, "", False), "v5e:2x4")
    assert 0.96 * most <= found.batch_size <= most
    assert all(batch % (8 * accumulate) == 0 for batch in tried)
    assert len(tried) <= 11


def test_a_step_takes_as_long_as_the_slower_of_products_and_memory(recipe):
    chip = chips.Chip("", flops=100.0, bytes=1.0, bandwidth=10.0)
    made = plan.Plan(recipe, 1, chip, HloStats(50.0, 0, 0, 0, 0, 0), 0, 0, 0, flops=200.0, compile_seconds=0)
    assert made.roofline_seconds == 5.0
    assert made._replace(flops=900.0).roofline_seconds == 9.0


@pytest.mark.slow
def test_the_step_compiles_for_the_devices_that_are_here(recipe, monkeypatch):
    """The same path as for absent hardware, with the CPU's own compiler."""
    chip = chips.CHIPS["v5e"]
    monkeypatch.setattr(plan, "resolve_topology", lambda topology: chips.Target(chip, jax.devices(), {}))
    made = plan.plan(recipe, "here", thorough=True)
    assert made.peak_bytes > made.state_bytes
    assert made.donated_bytes >= made.state_bytes
    assert made.hlo.all_reduces > 0
    text = plan.report(made, made)
    assert f"batch {recipe.batch_size} on {jax.device_count()} x TPU v5e" in text
    assert "images/s at 197 TFLOP/s" in text


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the extra `plan`")
@pytest.mark.parametrize(
    ("name", "changes", "all_reduces"),
    [
        # G's 7 batch norms, and D's gradients, in each of 5 D steps; the norms forward and back, and G's gradients
        ("cifar_sngan", {}, 5 * (7 + 1) + 7 + 7 + 1),
        ("cifar_r3gan", {"model.g.blocks": 1, "model.d.blocks": 1}, 2),  # half as much to compile
    ],
)
def test_the_step_compiles_for_eight_chips(name, changes, all_reduces):
    config = jaxgan.config(name)
    config.update_from_flattened_dict(changes)
    made = plan.plan(jaxgan.recipe_from_config(config), "v5e:2x4")
    assert made.peak_bytes < made.chip.bytes
    assert made.donated_bytes >= made.state_bytes
    assert made.hlo.all_gathers == 0
    assert made.hlo.all_reduces == all_reduces
    assert 0 < made.roofline_seconds < 1


def test_arrays_alive_at_once():
    """Of a chain two arrays live at a time, however long it is; what is used at the end lives until then."""
    x = jax.ShapeDtypeStruct((1000,), jnp.float32)
    chain = lambda x: jnp.sum(jnp.sin(jnp.cos(jnp.exp(x))))  # noqa: E731
    assert 2 * 4000 <= peak_bytes(chain, x) <= 2 * 4000 + 8
    # The gradient keeps what each of three functions needs: sin, cos, exp's own result.
    assert 3 * 4000 <= peak_bytes(jax.grad(chain), x) <= 6 * 4000
    scan = lambda x: jax.lax.scan(lambda total, y: (total + jnp.sum(jnp.cos(y * x)), None), 0.0, x)[0]  # noqa: E731
    assert 2 * 4000 <= peak_bytes(scan, x) <= 2 * 4000 + 100
    # A function inside returns what it has made: nothing is there twice.
    assert peak_bytes(jax.jit(chain), x) == peak_bytes(chain, x)


def test_what_is_computed_anew_is_there_one_at_a_time():
    """Of products with a ReLU before each, a pass back that takes the ReLUs anew keeps the products alone."""
    depth, size, x = 16, 4000, jax.ShapeDtypeStruct((1000, 1), jnp.float32)

    def chain(weights, x):
        for weight in weights:
            x = jnp.maximum(x, 0.0) @ weight
        return jnp.sum(x)

    weights = [jax.ShapeDtypeStruct((1, 1), jnp.float32)] * depth
    kept, anew = (peak_bytes(jax.grad(rematerialise(chain, on)), weights, x) for on in (False, True))
    assert anew < (depth + 6) * size < 2 * depth * size < kept


def test_the_batch_is_split_into_as_few_parts_as_fit():
    recipe = tiny_recipe(batch_size=64)
    whole, halves = (size.step_bytes(recipe.replace(accumulate=n)) for n in (1, 2))
    assert halves < whole
    assert size.divide(recipe, 0, 1, whole / 0.89).accumulate == 1
    assert size.divide(recipe, 0, 1, halves / 0.89).accumulate == 2
    assert size.divide(recipe, 0, 2, size.step_bytes(recipe, 2) / 0.89).accumulate == 1
    with pytest.raises(
        ConfigError, match=r"^config\.accumulate=0: not even one image at a time fits into the 1000 bytes"
    ):
        size.divide(recipe.replace(batch_size=2), 0, 1, 1000.0)


def test_what_scores_take():
    """Inception's second and third layer are alive at once, for as many images as a step takes."""
    recipe = tiny_recipe(batch_size=64)
    pair = 147 * 147 * (32 + 64) * 4  # bytes an image
    of_64, of_32 = (size.scores_bytes(recipe.replace(accumulate=n), ["fid"]) for n in (1, 2))
    assert 32 * pair < of_64 - of_32 < 3 * 32 * pair
    assert size.scores_bytes(recipe, ["fid", "is"], num_devices=2) == of_32
    assert size.scores_bytes(recipe, ["fid"], on_cpu=True) < of_32  # which takes 4 images at a time
    dinov2 = size.scores_bytes(recipe, ["fd_dinov2"]) - size.scores_bytes(recipe, [])
    assert dinov2 > 304e6 * 4  # the parameters of ViT-L/14


def test_whatever_a_run_does_takes_as_many_images_at_once_as_a_step():
    recipe = tiny_recipe(batch_size=64, accumulate=4)
    parts = dict.fromkeys(("config", "data", "workdir", "checkpoints", "log", "console", "speed", "mirror"))
    run = Run(recipe=recipe, total_steps=1, devices=Devices(devices=jax.devices()[:2]), **parts)
    state = jax.eval_shape(jaxgan.init_state, recipe, jax.random.key(0))
    assert run.images_at_once == run.ema_generator(state, 0).batch_size == 8
