"""The benchmark that cannot be run here for what it is, shrunk, on a CPU."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT, environment


@pytest.mark.long
def test_accelerator():
    """Everything that must be right is, and each config has a row of figures."""
    sizes = ["batch_size=4", "d_steps=1", "model.g.channels=(8,8,8,8)", "model.d.channels=(8,8,8,8)"]
    options = ["--configs=cifar_sngan", "--dtypes=float32", "--seconds=0", "--steps_per_dispatch=1", "--set", *sizes]
    command = [sys.executable, "accelerator.py", *options]
    env = environment(XLA_FLAGS="")  # its convolutions are not small: what spares time elsewhere takes twice as much
    done = subprocess.run(
        command, cwd=ROOT / "benchmarks", env=env, capture_output=True, text=True, check=True, timeout=500
    )
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    checks, timed = rows[2:-3], rows[-1]
    assert len(checks) == 6  # the seventh, the same bits with a flag, is for GPUs
    assert all(row[-1] == "yes" for row in checks), done.stdout
    assert timed[:3] == ["cifar_sngan", "float32", "4"], done.stderr
    assert float(timed[3].replace(",", "")) > 0
