"""The benchmark that cannot be run here for what it is, shrunk, on a CPU, and the parts of another."""

import importlib
import subprocess
import sys

import pytest

from tests.helpers import ROOT, environment


@pytest.fixture
def candidates(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("candidates")


def test_each_candidate_is_begun_once(candidates, tmp_path):
    """Processes that share a list take turns, and none takes what another has begun."""
    listed, out = tmp_path / "list.txt", tmp_path / "out.jsonl"
    listed.write_text("plain\n\nwarm optim_g.lr=1e-3 'optim_g.lr_schedule=warmup 4 kimg, constant'\n")
    found = [candidates.read_next(listed, out) for _ in range(3)]
    warm = ["optim_g.lr=1e-3", "optim_g.lr_schedule=warmup 4 kimg, constant"]
    assert found == [("plain", []), ("warm", warm), None]


@pytest.mark.parametrize(("images_seen", "half_life"), [(1e4, 2e3), (1e5, 3e3)])
def test_a_half_life_is_a_fifth_of_the_images_at_most(candidates, images_seen, half_life):
    """After as many images as the half-life an average keeps half of what it was."""
    decay = candidates.HalfLife(0.0, half_life=3e3).decay(images_seen, 10)
    assert decay ** (half_life / 10) == pytest.approx(0.5, rel=1e-3)


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
