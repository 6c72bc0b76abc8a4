"""Times what the training loop adds to the compiled step: batches, dispatch, logging.

    JAX_PLATFORMS=cpu python benchmarks/loop.py [--steps_per_dispatch=8] [--dispatches=400] [--repeats=3]

`configs/digits.py`, whose steps are the shortest of all, is trained by `jaxgan.train` without samples, evaluations and
checkpoints but the last, and its images/s are put beside those of the same compiled program, one dispatch after the
other, on one batch that is on the device already. In turn, in one process; medians.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import step

import jaxgan
from jaxgan.core import memory
from jaxgan.training.log import read_metrics


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps_per_dispatch", type=int, default=8)
    parser.add_argument("--dispatches", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    memory.retain_freed()
    config = step.load("digits", {"steps_per_dispatch": args.steps_per_dispatch})
    images = step.make_recipe(config).images_per_step * args.steps_per_dispatch
    config.train_kimg, config.log.every_kimg = args.dispatches * images / 1e3, args.dispatches * images / 20e3
    config.eval.metrics, config.checkpoint.best_metric = (), ""
    config.log.trackers = ()
    for section in (config.sample, config.health, config.checkpoint):
        section.every_kimg = 0.0  # at the end only
    dispatch = step.make_dispatch(config)
    dispatch.run()
    alone, looped = [], []
    for _ in range(args.repeats):
        start = time.perf_counter()
        for _ in range(args.dispatches // 4):
            dispatch.run()
        alone.append(args.dispatches // 4 * images / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as workdir:
            jaxgan.train(config, workdir)
            lines = read_metrics(pathlib.Path(workdir) / "metrics.jsonl")
        looped.append(statistics.median(line["perf/images_per_second"] for line in lines[1:]))
    alone, looped = statistics.median(alone), statistics.median(looped)
    speeds = f"{alone:,.0f} images/s alone, {looped:,.0f} in the loop, {looped / alone:.2f} times as many"
    print(f"{args.steps_per_dispatch} steps per dispatch: {speeds}")


if __name__ == "__main__":
    main()
