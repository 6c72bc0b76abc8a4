"""Disturbs small runs at random and compares what they end as with a run that nobody disturbed.

    make chaos N=200          # or: python -m tests.chaos --disturbances=200 --seed=0

A disturbance is a kill, a signal, a damaged file or a full disk, at a random moment. Between two of them the run is
started again as a user would, until it is done. Then its state, log, scores and pictures must be those of the
undisturbed run, to the bit; the console must have shown single lines and no traceback; and each damage must have been
told, or not mattered. A start is a child forked from a process that has imported everything, so it takes a second.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
from PIL import Image

STEPS, BATCH = 24, 16
KIMG = BATCH / 1e3  # of one step
KINDS = ("kill", "SIGTERM", "SIGINT", "flip", "truncate", "full disk")
SCRATCH_MB = 48  # room for a run, on a disk of its own that can be filled
NOISE = re.compile(r"Traceback|^ +File \"|Event loop is closed|Exception ignored|Bus error", re.MULTILINE)


def config(pictures: str):
    """Returns a run of 24 steps on a folder of pictures, with scores, samples, health and checkpoints."""
    from jaxgan.settings import default_config

    config = default_config()
    config.data.name, config.data.dir, config.data.image_size = "images", pictures, 8
    config.model.name, config.model.z_dim = "mlp", 8
    config.model.g.channels, config.model.d.channels = (16, 16), (8, 8)
    config.batch_size, config.train_kimg = BATCH, STEPS * KIMG
    config.log.every_kimg = 2 * KIMG
    config.checkpoint.every_kimg = 3 * KIMG
    config.sample.every_kimg, config.sample.grid = 12 * KIMG, 2
    config.health.every_kimg = config.eval.every_kimg = 12 * KIMG
    config.eval.metrics, config.eval.num_samples = ("fd_cifar",), 64
    config.checkpoint.best_metric = "eval/fd_cifar"
    return config


class Chaos:
    """Keeps what the runs share: pictures, a config file, caches, the reference and the tally.

    Args:
      root: a scratch directory.
      seed: of what happens when.
    """

    def __init__(self, root: pathlib.Path, seed: int):
        self.root, self.random = root, random.Random(seed)
        self.tally, self.faults = collections.Counter(), []
        draw = np.random.default_rng(0)
        for i in range(64):
            file = root / f"pictures/{'ab'[i % 2]}/{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
        (root / "run.py").write_text(
            f"from tests.chaos import config\n\n\ndef get_config():\n    return config({str(root / 'pictures')!r})\n"
        )
        self.disk = root / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SCRATCH_MB}m", "tmpfs", str(self.disk)]
        self.can_fill = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        os.environ["XDG_CACHE_HOME"] = str(self.disk / "cache")

    def close(self) -> None:
        if self.can_fill:
            subprocess.run(["umount", str(self.disk)], check=False)

    def start(self, workdir: pathlib.Path) -> int:
        """Starts the run in a child with its console in a file; returns its process id."""
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        status = 70
        try:
            console = os.open(self.root / "console", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            os.dup2(console, 1)
            os.dup2(console, 2)
            os.setpgid(0, 0)
            from jaxgan.commands import train
            from jaxgan.evaluation import METRICS

            METRICS["fd_cifar"] = METRICS["fd_cifar"]._replace(dataset="")
            status = train.main([f"--config={self.root / 'run.py'}", f"--workdir={workdir}"])
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def wait(self, pid: int, seconds: float = 120.0) -> tuple[int, str]:
        """Returns the exit status, negative for a signal, and what the console shows; a run that hangs is killed."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status), (self.root / "console").read_text(errors="replace")
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.fault(f"a run did not end within {seconds:.0f} s")
        return -9, (self.root / "console").read_text(errors="replace")

    def fault(self, what: str) -> None:
        self.faults.append(what)
        print(f"FAULT: {what}", flush=True)

    def check_console(self, text: str, what: str) -> None:
        if NOISE.search(text):
            self.fault(f"after {what} the console shows\n{text[-3000:]}")

    def reference(self) -> dict:
        """Runs without a disturbance; returns what it leaves, and learns how long it takes."""
        for name in ("warm-up", "reference"):
            began = time.monotonic()
            status, text = self.wait(self.start(self.disk / name), 600.0)
            self.seconds = time.monotonic() - began
            assert status == 0, text
        left = outcome(self.disk / "reference")
        shutil.rmtree(self.disk / "warm-up")
        return left

    def disturb(self, workdir: pathlib.Path) -> tuple[str, int, str]:
        """Starts the run and disturbs it once; returns what was done, the exit status and the console."""
        kind = self.random.choice(KINDS if self.can_fill else KINDS[:-1])
        self.tally[kind] += 1
        if kind == "full disk":
            filler = self.disk / "filler"
            free = shutil.disk_usage(self.disk).free
            filler.write_bytes(bytes(max(free - self.random.randrange(400_000), 0)))
            status, text = self.wait(self.start(workdir))
            filler.unlink()
            return kind, status, text
        number = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}.get(kind, signal.SIGKILL)
        pid = self.start(workdir)
        time.sleep(self.random.uniform(0.0, 1.1 * self.seconds))
        os.kill(pid, number)  # a child that has ended is still there to be waited for
        status, text = self.wait(pid)
        if kind in ("flip", "truncate") and (file := self.pick(workdir)):
            return f"{kind} {file}", *self.damage(kind, file, workdir)
        return kind, status, text

    def pick(self, workdir: pathlib.Path) -> pathlib.Path | None:
        """Returns a file that a start may read: of checkpoints, log, caches; not one that it only writes."""
        files = [*workdir.rglob("*"), *(self.disk / "cache").rglob("*")]
        skip = {"samples", "tensorboard", ".lock", "curves.png", "report.html", "xla"}
        files = [f for f in files if f.is_file() and f.stat().st_size and not skip & set(f.parts)]
        return self.random.choice(sorted(files)) if files else None

    def damage(self, kind: str, file: pathlib.Path, workdir: pathlib.Path) -> tuple[int, str]:
        """Damages a file and starts the run; where the start refuses it in one line the file is mended again."""
        good = file.read_bytes()
        place = self.random.randrange(len(good))
        bad = bytearray(good)
        bad[place] ^= 1 << self.random.randrange(8)
        file.write_bytes(bad if kind == "flip" else good[:place])
        status, text = self.wait(self.start(workdir))
        if file.exists() and file.name == "metrics.jsonl":
            # The log is the only copy of its numbers: that it was damaged must be told.
            told = "metrics.jsonl" in text
            left = file.read_bytes()
            if not told and left[: len(good)] != good[: len(left)]:
                self.fault(f"{kind} of {file.name} at {place} of {len(good)} was not told:\n{text[-1500:]}")
            file.write_bytes(good if status else good + left[len(good) :] if kind == "flip" else good)
            self.told |= told
        elif status and file.exists():
            file.write_bytes(good)
        return status, text

    def one_run(self, number: int, reference: dict, most: int) -> int:
        """Disturbs one run up to `most` times, lets it end and compares; returns how often it was disturbed."""
        workdir, done, history, self.told = self.disk / f"run{number}", 0, [], False
        for _ in range(most):
            kind, status, text = self.disturb(workdir)
            done += 1
            history.append(f"{kind}: {status}")
            self.check_console(text, f"{history}")
            if status not in (0, 1, 2, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
                self.fault(f"{history}: exit status {status}\n{text[-1500:]}")
            if status == 1 and not re.search(r"^error: .*", text, re.MULTILINE):
                self.fault(f"{history}: no line says why\n{text[-1500:]}")
            self.told |= "write_line failed" in text
        status, text = self.wait(self.start(workdir))
        self.check_console(text, f"{history}, then the end")
        if status:
            self.fault(f"{history}: the last start ends with {status}\n{text[-1500:]}")
            return done
        found = outcome(workdir)
        for name in reference:
            if found[name] != reference[name] and not (name == "log" and self.told):
                self.fault(f"{history}: another {name}\n{found[name]}\ninstead of\n{reference[name]}"[:3000])
        shutil.rmtree(workdir)
        return done


def outcome(workdir: pathlib.Path) -> dict:
    """Returns what a run leaves that must not depend on disturbances."""
    from jaxgan.core import checkpoint
    from jaxgan.training.log import read_metrics

    directory, steps = checkpoint.find(workdir)
    meta = json.loads((directory / str(steps[-1]) / "meta/metadata").read_text())
    log = [
        {k: v for k, v in line.items() if not k.startswith("perf/")} for line in read_metrics(workdir / "metrics.jsonl")
    ]
    return {
        "checkpoints": [s for s in steps if s == steps[-1]],
        "state": meta["items"],
        "log": log,
        "pictures": {p.name: hash(p.read_bytes()) for p in sorted((workdir / "samples").iterdir())},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--disturbances", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxgan-chaos-")))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "xla")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        chaos = Chaos(root, options.seed)
        stack.callback(chaos.close)
        import jaxgan.commands.train
        import jaxgan.training.loop  # noqa: F401, before the fork

        reference = chaos.reference()
        print(f"undisturbed: {chaos.seconds:.1f} s a run", flush=True)
        done = runs = 0
        while done < options.disturbances:
            most = min(chaos.random.randint(1, 6), options.disturbances - done)
            done += chaos.one_run(runs, reference, most)
            runs += 1
            print(f"{done} disturbances of {runs} runs, {len(chaos.faults)} faults", flush=True)
        kinds = ", ".join(f"{n} x {kind}" for kind, n in chaos.tally.items())
        print(f"{done} disturbances ({kinds}) of {runs} runs: {len(chaos.faults)} faults")
        return bool(chaos.faults)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0")
    sys.exit(main())
