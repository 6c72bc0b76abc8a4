"""Times a checkpoint: how long the loop is held up, and how long until it is on the disk, beside the steps.

    JAX_PLATFORMS=cpu python benchmarks/save.py [--configs=digits,cifar_sngan] [--repeats=5] [--dir=/a/disk]

The loop waits for the checks of the state (finite, the same on all devices), its copy on the host, its checksums, and
what orbax does before it writes in the background. Nothing trains beside it here. Medians.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
import types

import jax
import step

from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.parallel import Devices
from jaxgan.gan.state import init_state
from jaxgan.training.resume import checkpoint_items
from jaxgan.training.standard import save_checkpoint


def time_saves(name: str, repeats: int, directory: str | None) -> str:
    """Returns a row of the table."""
    config = step.load(name, {})
    state = jax.jit(init_state)(step.make_recipe(config), jax.random.key(0))
    state = Devices().replicate(state)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(checkpoint_items(state)))
    held, written = [], []
    with tempfile.TemporaryDirectory(dir=directory) as folder, Checkpoints(pathlib.Path(folder)) as checkpoints:
        parts = dict(config=config, data=types.SimpleNamespace(_asdict=dict), rollbacks=0)
        parts |= dict(log=types.SimpleNamespace(mark=(0, 0)), checkpoints=checkpoints, saved=0)
        for number in range(repeats + 1):
            start = time.perf_counter()
            save_checkpoint(types.SimpleNamespace(**parts), number + 1, state, {})
            held.append(time.perf_counter() - start)
            checkpoints.wait()
            written.append(time.perf_counter() - start)
    held, written = statistics.median(held[1:]), statistics.median(written[1:])  # the first one starts threads
    return f"| {name} | {size / 1e6:,.1f} | {held:.2f} | {written:.2f} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--configs", default="digits,cifar_sngan")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dir", help="where the checkpoints go; the temporary directory if not given")
    args = parser.parse_args()
    print("| config | state, MB | the loop waits, s | on the disk after, s |\n|---|---|---|---|")
    for name in args.configs.split(","):
        print(time_saves(name, args.repeats, args.dir), flush=True)


if __name__ == "__main__":
    main()
