"""What the training loop adds to the compiled step: batches, dispatch, logging.

    JAX_PLATFORMS=cpu python benchmarks/loop.py [--steps_per_call=8] [--repeats=3]

`configs/digits.py`, whose steps are the shortest of all, is trained by `train` without samples, evaluations and
checkpoints but the last, and its images/s are put beside those of the same compiled call, one after the other, on one
batch that is on the device already. In turn, in one process; medians.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import step

from jaxgan.settings import images_per_step
from jaxgan.training.log import read_metrics
from jaxgan.training.loop import train


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps_per_call", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    step.memory.keep_freed()
    config = step.load("digits", {"steps_per_call": args.steps_per_call})
    images = images_per_step(config) * args.steps_per_call
    config.train_kimg, config.log.every_kimg = 400 * images / 1e3, 20 * images / 1e3
    config.eval.metrics, config.checkpoint.best_metric = (), ""
    config.log.tensorboard = False
    for section in (config.sample, config.diagnose, config.checkpoint):
        section.every_kimg = 0.0
    alone, looped = [], []
    for _ in range(args.repeats):
        made = step.make_step(config, "auto")
        start = time.perf_counter()
        for _ in range(100):
            made.run()
        alone.append(100 * images / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as workdir:
            train(config, workdir)
            lines = read_metrics(pathlib.Path(workdir) / "metrics.jsonl")
        looped.append(statistics.median(line["perf/images_per_second"] for line in lines[1:]))
    alone, looped = statistics.median(alone), statistics.median(looped)
    print(f"{args.steps_per_call} steps a call: {alone:,.0f} images/s alone, {looped:,.0f} in the loop: ", end="")
    print(f"{1 - looped / alone:.1%} of the time is not the step's")


if __name__ == "__main__":
    main()
