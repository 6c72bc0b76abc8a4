"""Commands on a run: which checkpoints are evaluated and drawn, with all that their values depend on."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import jaxgan
from jaxgan.commands import evaluate, sample
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.data import DataSpec
from jaxgan.evaluation import PROTOCOLS
from jaxgan.evaluation.report import Report
from tests.helpers import tiny_generator


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits whose second of three checkpoints was the best."""
    workdir, generator = tmp_path_factory.mktemp("run"), tiny_generator("mlp")
    config = jaxgan.config("digits")
    config.model.z_dim, config.model.g.channels = generator.z_dim, generator.module.channels
    with Checkpoints(workdir / "checkpoints", keep_last=3, best_metric="eval/modes") as checkpoints:
        for step, modes in ((1, 10.0), (2, 30.0), (3, 20.0)):
            variables = jax.tree.map(lambda x, step=step: x * step, generator.variables)
            about = {"config": config.to_dict(), "data": DataSpec(8, 3, 0, 50_000, "")._asdict()}
            checkpoints.save(step, {"ema": variables}, about, {"eval/modes": modes})
    return workdir


def scores(capsys):
    """Returns the lines of JSON that a command printed."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    ("arguments", "steps", "protocol", "rule"),
    [
        ([], [3], "nvidia with num=50", "the newest"),
        (["--step=1"], [1], "nvidia with num=50, step=1", "as asked"),
        (["--step=best"], [2], "nvidia with num=50, step=best", "best of 3 by eval/modes"),
        (["--step=all"], [1, 2, 3], "nvidia with num=50, step=all", "all"),
        (["--protocol=studiogan"], [2], "studiogan with num=50", "best of 3 by eval/modes"),
    ],
)
def test_the_checkpoints_of_a_run(run, arguments, steps, protocol, rule, capsys):
    (run / "scores.jsonl").unlink(missing_ok=True)
    assert evaluate.main([f"--workdir={run}", "--num=50", *arguments]) == 0
    lines = scores(capsys)
    assert [line["step"] for line in lines] == steps
    for line in lines:
        assert line["kimg"] == line["step"] * 0.064
        assert set(line["scores"]) == {"modes", "kl"}  # the run's own metrics
        assert (line["protocol"]["protocol"], line["protocol"]["checkpoint"]) == (protocol, rule)
        assert (line["protocol"]["ema"], line["protocol"]["n_fake"]) == ("half-life 10 kimg", 50)
    kept = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    assert kept == lines


def test_images_have_the_scores_of_the_samples_that_they_are(run, tmp_path, capsys):
    out = tmp_path / "samples.npz"
    assert sample.main([f"--workdir={run}", f"--out={out}", "--num=50"]) == 0
    assert evaluate.main([f"--workdir={run}", "--num=50"]) == evaluate.main([f"--images={out}", "--metrics=modes"]) == 0
    of_run, of_images = scores(capsys)
    assert of_images["scores"] == of_run["scores"]
    assert of_images["protocol"]["protocol"] == "nvidia with num=50"


@pytest.mark.slow
def test_reals_and_the_picture_of_neighbours(tmp_path, monkeypatch, capsys):
    """Images that are among the reals are their own nearest."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where features of reals are kept
    reals = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "fakes.npz", images=reals[:36])
    np.savez(tmp_path / "reals.npz", images=reals)
    given = [f"--images={tmp_path}/fakes.npz", f"--reals={tmp_path}/reals.npz", f"--neighbours={tmp_path}/n.png"]
    assert evaluate.main([*given, "--metrics=prdc_cifar"]) == 0
    (line,) = scores(capsys)
    assert (line["scores"]["precision_cifar"], line["scores"]["recall_cifar"]) == (1.0, 1.0)
    assert line["protocol"]["n_real"] == 40
    picture = np.asarray(Image.open(tmp_path / "n.png"))
    below = picture[-(8 * 98 + 2) :]  # rows of four pairs of 96 pixels each, under the titles
    tiles = np.stack([below[2:, 2 + 98 * i : 98 * (i + 1)] for i in range(8)])
    assert np.array_equal(tiles[::2], tiles[1::2])
    ink = [(picture[: -(8 * 98 + 2), 98 * i + 2 : 98 * (i + 1)] < 128).sum() for i in range(8)]
    assert ink == [ink[0], ink[1]] * 4  # "fake" and "nearest real" above each pair of columns
    assert 0 < ink[0] < ink[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--step=last"], "--step='last': give a number, newest, best or all"),
        (["--step=7"], "has the checkpoints 1, 2, 3"),
        (["--sigma_rel=0.1"], "sigma_rel=0.1: the EMA of this run is no power function"),
        (["--metrics=fidd"], "--metrics='fidd': choose one of fid"),
        (["--metrics=prdc_cifar", "--reals=mnistt"], "mnistt"),
        (["--images=x.npz"], "give either --workdir=RUN or --images"),
    ],
)
def test_what_a_run_cannot_be_asked(run, arguments, expected, capsys):
    assert evaluate.main([f"--workdir={run}", "--num=50", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_the_help_names_the_protocols():
    assert all(name in evaluate.FLAGS["protocol"].help for name in PROTOCOLS)


def test_table():
    values = {"fid": 12.3456789, "is": 9.87, "is_std": 0.1234, "kid": float("nan")}
    report = Report({"run": "runs/x", "step": 7000, "kimg": 112.0}, values, {"protocol": "nvidia", "n_fake": 50_000})
    assert str(report).splitlines() == [
        "runs/x  step 7,000  kimg 112",
        "  fid       12.346",
        "  is        9.87 +- 0.12",
        "  kid       nan",
        "  protocol  nvidia",
        "  n_fake    50,000",
    ]
    assert json.loads(report.to_json())["scores"]["kid"] is None
