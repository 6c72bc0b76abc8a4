"""Trains candidates, one after the other, and scores G itself and averages of several half-lives as they go.

    JAX_PLATFORMS=cpu python benchmarks/candidates.py LIST --images=FILE.npz --out=FILE.jsonl [--core=0]
        [--config=laptop] [--kimg=48] [--every=24] [--half_lives=2,10] [--num=5000] [--metrics=fd_cifar,accuracy_cifar]

Each line of the text file LIST is a name and the settings in which that candidate differs from the config, such as
"quick optim_g.lr=1e-3 optim_d.lr=1e-3"; quotation marks hold a setting with spaces together. Several of these
processes, each kept on a core of its own, may share LIST and FILE.jsonl: each takes the next line that none has begun;
the names of these are in FILE.jsonl.begun, which is to be removed to begin anew. A score belongs to a number of images,
and does not depend on what else the machine does; the speed beside it does. Neither scores nor compilation count as
training time.
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import shlex
import time
from collections.abc import Iterator

import flax.struct
import jax
import jax.numpy as jnp
import step

import jaxgan
from jaxgan.core import memory
from jaxgan.core.parallel import Devices, first_replica
from jaxgan.data import open_images
from jaxgan.data.batches import Batches
from jaxgan.evaluation import Evaluator, Protocol
from jaxgan.gan.ema import PowerEma
from jaxgan.sampling.generator import Generator

DISPATCH = 10  # steps


@flax.struct.dataclass
class HalfLife(PowerEma):
    """Stands where a recipe has post-hoc averages, and has a half-life instead, of a fifth of all images at most."""

    half_life: float = 0.0  # images

    def decay(self, images_seen, images_per_step):
        return 0.5 ** (images_per_step / jnp.minimum(self.half_life, 0.2 * images_seen))


def read_next(file: str, out: str) -> tuple[str, list[str]] | None:
    """Returns the name and settings of the next candidate that no process has begun, and notes that it has begun."""
    with open(f"{out}.begun", "a+") as begun:
        fcntl.flock(begun, fcntl.LOCK_EX)
        begun.seek(0)
        names = begun.read().split("\n")
        with open(file) as lines:
            rows = [shlex.split(line) for line in lines if line.strip()]
        row = next((row for row in rows if row[0] not in names), None)
        if row:
            begun.write(f"{row[0]}\n")
    return row and (row[0], row[1:])


def train(name: str, changes: list[str], args, dataset, evaluator) -> Iterator[dict]:
    """Yields a row of figures after every `args.every` kimg of one candidate."""
    config = step.load(args.config, {"train_kimg": args.kimg, **step.settings(changes)})
    recipe, devices = jaxgan.recipe_from_config(config, jaxgan.DataSpec.from_dataset(dataset)), Devices()
    averages = {f"half-life {half}": HalfLife(0.0, half_life=1e3 * half) for half in args.half_lives}
    recipe, key = recipe.replace(posthoc_ema=averages), jax.random.key(config.seed)
    update, state = jaxgan.parallelize(recipe, devices), jax.jit(jaxgan.init_state)(recipe, key)
    state = devices.replicate(state)
    per_dispatch = DISPATCH * recipe.images_per_step
    last = round(1e3 * args.kimg / per_dispatch)
    batches = Batches(
        dataset, recipe, devices, seed=config.seed, last_step=last * DISPATCH, steps_per_dispatch=DISPATCH
    )
    seconds, due, sums = 0.0, args.every, None
    with contextlib.closing(batches):
        for count, batch in enumerate(batches, 1):
            if count == 1:
                update.compile(state, batch, key)
            start = time.perf_counter()
            state, metrics = jax.block_until_ready(update(state, batch, key))
            seconds += time.perf_counter() - start
            sums = jax.tree.map(jnp.add, sums, metrics) if sums else metrics
            kimg = count * per_dispatch / 1e3
            if kimg < due and count < last:
                continue
            due += args.every
            one = first_replica(state)
            nets = {"G itself": one.g.variables} | {k: one.posthoc_ema[k] for k in averages}
            means, sums = {k: float(mean) for k, mean in first_replica(sums).items()}, None
            yield dict(name=name, kimg=kimg, minutes=seconds / 60, speed=1e3 * kimg / seconds, metrics=means) | {
                of: evaluator.evaluate(Generator(recipe.generator, variables, z_dim=recipe.z_dim))
                for of, variables in nets.items()
            }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("list")
    parser.add_argument("--images", required=True, help="FILE.npz to train on and compare with, images and labels")
    parser.add_argument("--out", required=True, help="FILE.jsonl, to which rows are added")
    parser.add_argument("--core", type=int, help="the one to stay on; all of them if not given")
    parser.add_argument("--config", default="laptop")
    parser.add_argument("--kimg", type=float, default=48.0)
    parser.add_argument("--every", type=float, default=24.0, help="kimg between two scores")
    parser.add_argument("--half_lives", type=lambda text: [float(x) for x in text.split(",")], default=[2.0, 10.0])
    parser.add_argument("--num", type=int, default=5000, help="samples")
    parser.add_argument("--num_reals", type=int, default=0, help="reals to compare with; 0: all")
    parser.add_argument("--metrics", type=lambda text: text.split(","), default=["fd_cifar", "accuracy_cifar"])
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    memory.retain_freed()
    dataset = open_images(args.images, "--images")
    evaluator = Evaluator(args.metrics, Protocol(num=args.num, num_reals=args.num_reals), dataset, show_progress=False)
    for name, changes in iter(lambda: read_next(args.list, args.out), None):
        for row in train(name, changes, args, dataset, evaluator):
            with open(args.out, "a") as out:
                out.write(json.dumps(row) + "\n")
            scores = itertools.chain.from_iterable(v.items() for k, v in row.items() if isinstance(v, dict))
            print(name, f"{row['kimg']:.0f} kimg", *(f"{k} {v:.4g}" for k, v in scores), flush=True)


if __name__ == "__main__":
    main()
