"""Times what happens between two steps of a run: for how long each hook holds up the loop.

    JAX_PLATFORMS=cpu python benchmarks/hooks.py [--config=numerals] [--set KEY=VALUE ...] [--times=5]

`jaxgan.train` runs until everything that the config asks for was due once more than so many times, all at the same
steps. Medians of all calls of a hook but the first, which compiles; what other threads do is not in them.
"""

import argparse
import statistics
import tempfile
import time
from unittest import mock

import jax
import step

import jaxgan
from jaxgan.core import memory
from jaxgan.training import standard
from jaxgan.training.hooks import HookCaller, _named


def timed(function, name_of, seconds: dict[str, list[float]]):
    """Returns a function that also keeps what its calls take, by `name_of` their arguments."""

    def call(*arguments):
        start = time.perf_counter()
        result = function(*arguments)
        seconds.setdefault(name_of(*arguments), []).append(time.perf_counter() - start)
        return result

    return call


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="numerals")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE")
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    memory.retain_freed()
    config = step.load(args.config, step.settings(args.set))
    every = config.sample.every_kimg
    for section in (config.log, config.eval, config.health, config.checkpoint):
        section.every_kimg = every
    config.train_kimg, config.log.trackers = (args.times + 1) * every, ()
    seconds = {}
    attempt = timed(HookCaller._attempt, lambda caller, hook, *_: _named(hook).__name__, seconds)
    save = timed(standard.save_checkpoint, lambda *_: "save_checkpoint", seconds)
    patches = mock.patch.object(HookCaller, "_attempt", attempt), mock.patch.object(standard, "save_checkpoint", save)
    with tempfile.TemporaryDirectory() as workdir, patches[0], patches[1]:
        start = time.perf_counter()
        jaxgan.train(config, workdir)
        whole = time.perf_counter() - start
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    print(f"| what, every {every:g} kimg of {args.config} on {devices} | seconds |\n|---|---|")
    for name, taken in seconds.items():
        if len(taken) > 1:  # what comes before the first step or after the last comes once
            print(f"| {name} | {statistics.median(taken[1:]):.3f} |")
    print(f"| the whole run of {config.train_kimg:g} kimg, with its start | {whole:.0f} |")


if __name__ == "__main__":
    main()
