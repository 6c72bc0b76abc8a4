"""Times what further cores are worth to a step: all of them for one device, a device a core, and a run a core.

    JAX_PLATFORMS=cpu python benchmarks/cores.py [--config=laptop] [--set KEY=VALUE ...] [--rounds=8] [--seconds=3]

The contenders live side by side, in processes of their own, and take turns of some seconds, as the speed of a shared
machine varies by more than what is compared. "a part of a batch a core" are separate runs again, whose batch is divided
by the number of cores: what a division of the batch could reach at most. Figures are medians of the rounds; CPU time is
that of all threads. On Linux alone, where processes can be kept on a core.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import statistics
import time
from unittest import mock

import step


def serve(name: str, changes: dict, share: int, pipe) -> None:
    """Is a process of a contender: for every number of seconds it is sent, it runs so long and sends two rates.

    They are images/s, and seconds of CPU time an image.
    """
    step.memory.retain_freed()
    config = step.load(name, changes)
    config.batch_size //= share
    dispatch = step.make_dispatch(config)
    images = dispatch.recipe.images_per_step * config.steps_per_dispatch
    dispatch.run()
    pipe.send("ready")
    while seconds := pipe.recv():
        start, cpu, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < seconds:
            dispatch.run()
            done += images
        pipe.send((done / (time.perf_counter() - start), (time.process_time() - cpu) / done))


@contextlib.contextmanager
def on_core(core: int | None):
    """Makes processes that start here, and their threads, stay on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores if core is None else {core})
    yield
    os.sched_setaffinity(0, cores)


def start(name: str, changes: dict, cores: list, share: int = 1, devices: int = 1) -> list:
    """Returns the pipes to a contender's processes, one on each of `cores`; None: on all of them."""
    spawn, pipes = multiprocessing.get_context("spawn"), []
    for core in cores:
        pipe, other = spawn.Pipe()
        with on_core(core), mock.patch.dict(os.environ, JAX_NUM_CPU_DEVICES=str(devices)):
            spawn.Process(target=serve, args=(name, changes, share, other), daemon=True).start()
        other.close()  # so that a process that dies is noticed
        assert pipe.recv() == "ready"
        pipes.append(pipe)
    return pipes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="laptop")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    args = parser.parse_args()
    cores, what = sorted(os.sched_getaffinity(0)), (args.config, step.settings(args.set))
    contenders = {
        "one device": start(*what, [None]),
        "a device a core": start(*what, [None], devices=len(cores)),
        "a run a core": start(*what, cores),
        "a part of a batch a core": start(*what, cores, share=len(cores)),
    }
    rates = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, pipes in contenders.items():
            for pipe in pipes:
                pipe.send(args.seconds)
            rates[name].append([pipe.recv() for pipe in pipes])
    for pipe in itertools.chain.from_iterable(contenders.values()):
        pipe.send(0)
    first = [sum(speed for speed, _ in turn) for turn in rates["one device"]]
    print(f"{args.config:24} {'images/s':>9} {'to one device':>14} {'CPU ms an image':>16}")
    for name, turns in rates.items():
        speeds = [sum(speed for speed, _ in turn) for turn in turns]
        ratio = statistics.median(speed / one for speed, one in zip(speeds, first))
        cpu = statistics.median(statistics.mean(seconds for _, seconds in turn) for turn in turns)
        print(f"{name:24} {statistics.median(speeds):9.0f} {ratio:14.2f} {1e3 * cpu:16.2f}")


if __name__ == "__main__":
    main()
