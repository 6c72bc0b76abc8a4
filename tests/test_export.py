"""A run as a model for others: what is written loads bit for bit, the program runs without jaxgan, the card is read."""

import json
import pathlib
import subprocess
import sys
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxgan
import jaxgan.sharing.export
from jaxgan.commands import export as command
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.data import DataSpec
from jaxgan.models import MODELS
from jaxgan.sampling import exported
from jaxgan.settings import to_json
from jaxgan.sharing import program
from jaxgan.training.log import MetricsLog
from jaxgan.training.report.contents import contents
from tests.helpers import ROOT, assert_same_bits, tiny_generator

hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
pytest.importorskip("safetensors", reason="the extra hub is not installed")
pytest.importorskip("flatbuffers", reason="the extra hub is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of conditional digits with a checkpoint, a log and scores."""
    workdir, generator = tmp_path_factory.mktemp("runs") / "mine", tiny_generator("mlp", num_classes=3)
    config = jaxgan.config("digits")
    config.model.z_dim, config.model.g.channels = generator.z_dim, generator.module.channels
    config.model.conditional = True
    spec = DataSpec(8, 3, 3, 50_000, "", ("a", "b", "c"))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        about = {"config": config.to_dict(), "data": spec._asdict()}
        checkpoints.save(7, {"ema": generator.variables}, about, {})
    (workdir / "config.json").write_text(to_json(config))
    (workdir / "data.json").write_text(json.dumps(spec._asdict()))
    log = MetricsLog(workdir)
    for step, modes in ((5, 13.0), (7, 12.0), (9, 14.0)):  # of which the checkpoint has the second
        log.scalars(step, {"kimg": 0.064 * step, "eval/modes": modes, "eval/kl": 3.5})
    log.close()
    scores = {"fid": 3.25, "kid": 0.001, "kid_std": 0.0005}
    line = {
        "run": "x",
        "step": 7,
        "kimg": 0.448,
        "scores": scores,
        "protocol": {"protocol": "nvidia", "n_fake": 50_000},
    }
    lines = [line, line | {"step": 5, "scores": {"fid": 1.0}}]
    (workdir / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workdir


@pytest.fixture(scope="module")
def directory(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("shared") / "model"
    assert command.main([str(run), f"--out={out}"]) == 0
    return out


def test_what_is_written_loads_bit_for_bit(run, directory):
    original, back = jaxgan.load(run), jaxgan.load(directory)
    assert_same_bits(back.variables, original.variables)
    assert (back.step, back.class_names, back.module) == (7, ("a", "b", "c"), original.module)
    assert back.config.to_dict() == original.config.to_dict()
    np.testing.assert_array_equal(back.sample(5, seed=3), original.sample(5, seed=3))


def test_an_export_is_no_run(directory, tmp_path):
    for act in (contents, lambda path: jaxgan.sharing.export.export(path, tmp_path / "out")):
        with pytest.raises(RunFailed, match=f"^{directory}: is an export, not a run; name "):
            act(directory)


def test_bfloat16_is_half_as_large_and_is_what_was_exported(run, directory, tmp_path):
    assert command.main([str(run), f"--out={tmp_path / 'half'}", "--dtype=bfloat16"]) == 0
    sizes = [(path / exported.WEIGHTS).stat().st_size for path in (tmp_path / "half", directory)]
    assert sizes[0] < 0.7 * sizes[1]
    back = jaxgan.load(tmp_path / "half")
    assert_same_bits(back.variables, exported.rounded(jaxgan.load(run).variables, "bfloat16"))


def test_the_card_has_every_score_of_its_step_with_its_protocol(directory):
    card = hub.ModelCard.load(directory / "README.md")
    assert (card.data.library_name, card.data.license, card.data.datasets) == ("jaxgan", "other", ["stacked_digits"])
    found = {(one.metric_type, one.metric_value): one.metric_args for one in card.data.eval_results}
    assert found.keys() == {("fid", 3.25), ("kid", 0.001), ("modes", 12.0), ("kl", 3.5)}
    assert found["fid", 3.25] == {"protocol": "nvidia", "n_fake": 50_000}
    assert "26,000 samples" in found["modes", 12.0]["how"]
    for words in ('jaxgan.load("hf://owner/mine")', "grid.png", "**Licence**", "`config.loss = rpgan`"):
        assert words in card.text
    with Image.open(directory / "grid.png") as grid:
        assert grid.width > 100


def as_program(serialized):
    return jax.export.deserialize(bytearray(serialized))


def test_the_program_makes_the_samples(directory):
    generator = jaxgan.load(directory)
    z, labels, keys, _ = generator.inputs(5, seed=1)
    made = as_program((directory / "generator.stablehlo").read_bytes())
    assert made.platforms == ("cpu", "cuda", "tpu")
    for n in (1, 5):
        images = made.call(z[:n], labels[:n], jnp.float32(jnp.inf))
        assert images.dtype == jnp.uint8
        assert abs(np.asarray(images, int) - generator.generate(z[:n], labels[:n], keys[:n])).max() <= 1


ARCHITECTURES = {"dcgan": 16, "stylegan2": 8}  # and the image size of their tiny nets
OTHERS = {"sngan": 16, "biggan": 16, "sagan": 16, "r3gan": 16, "r3gan2": 8, "dcgan_strided": 32}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("dcgan", ARCHITECTURES["dcgan"]),
        pytest.param("stylegan2", ARCHITECTURES["stylegan2"], marks=pytest.mark.slow),
        *(pytest.param(*case, marks=pytest.mark.long) for case in OTHERS.items()),
    ],
)
def test_every_architecture_is_a_program_for_any_number_of_images(name, size):
    generator = tiny_generator(name, size, num_classes=3)
    made = as_program(program.serialize(generator))
    z, labels, keys, _ = generator.inputs(3)
    truncation = 0.7 if generator.has_styles else jnp.inf
    images = np.asarray(made.call(z, labels, jnp.float32(truncation)), int)
    expected = generator.generate(z, labels, keys, 0.7 if generator.has_styles else None)
    assert abs(images - expected).max() <= 2  # XLA's convolutions in place of ours


def test_all_architectures_are_tried():
    assert ARCHITECTURES.keys() | OTHERS.keys() | {"mlp"} == MODELS.keys()


def test_truncated_latents_are_truncated_normal():
    z = jax.random.normal(jax.random.key(0), (20_000,))
    bounded = program.within(z, jnp.float32(1.5))
    assert abs(bounded).max() <= 1.5
    reference = jax.random.truncated_normal(jax.random.key(1), -1.5, 1.5, (20_000,))
    quantiles = jnp.linspace(0.01, 0.99, 30)
    np.testing.assert_allclose(jnp.quantile(bounded, quantiles), jnp.quantile(reference, quantiles), atol=0.04)
    np.testing.assert_array_equal(jnp.argsort(bounded[:50]), jnp.argsort(z[:50]))
    np.testing.assert_array_equal(program.within(z, jnp.float32(jnp.inf)), z)


@pytest.mark.long
def test_the_program_runs_without_jaxgan(directory, tmp_path):
    """The lines of the card, in an environment that holds JAX and flatbuffers and nothing of ours."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python, constraints = environment / "bin/python", ROOT / f"constraints/py3.{sys.version_info.minor}.txt"
    install = [python, "-m", "pip", "install", "-q", "-c", constraints, "jax", "flatbuffers"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("jax cannot be installed here (no package index)")
    blocks = (directory / "README.md").read_text().split("```python\n")
    (code,) = (block.split("```")[0] for block in blocks if "deserialize" in block)
    code += "\nimport importlib.util\nassert importlib.util.find_spec('jaxgan') is None\n"
    code += "print(images.shape, images.dtype, int(images[3].sum()))"
    result = subprocess.run([python, "-c", code], cwd=directory, capture_output=True, text=True, check=True, env={})
    assert result.stdout.startswith("(16, 8, 8, 3) uint8")


@pytest.fixture
def offline_hub(directory, tmp_path, monkeypatch):
    """A cache of the Hub that holds owner/name, and no network: what huggingface_hub keeps of a download."""
    model = tmp_path / "hub/models--owner--name"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text("0" * 40)
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name in (exported.WEIGHTS, exported.CONFIG):
        (snapshot / name).write_bytes((directory / name).read_bytes())
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_model_of_the_hub(offline_hub, directory):
    back = jaxgan.load("hf://owner/name")
    assert_same_bits(back.variables, jaxgan.load(directory).variables)
    with pytest.raises(ConfigError, match="the Hub does not give this model"):
        jaxgan.load("hf://owner/another")
    with pytest.raises(ConfigError, match="hf://owner/name"):
        jaxgan.load("hf://name")


def test_push(run, directory, tmp_path, monkeypatch):
    """Without a token it is one line before anything is written; with one, the directory is what is uploaded."""
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(ConfigError, match=r"push='me/mine': needs a token"):
        jaxgan.sharing.export.export(run, tmp_path / "out", push="me/mine")
    assert not (tmp_path / "out").exists()
    calls = []
    monkeypatch.setattr(hub, "get_token", lambda: "secret")
    monkeypatch.setattr(hub.HfApi, "create_repo", lambda self, **options: calls.append(options))
    monkeypatch.setattr(hub.HfApi, "upload_folder", lambda self, **options: calls.append(options))
    monkeypatch.setattr(program, "serialize", lambda generator: b"program")
    jaxgan.sharing.export.export(run, tmp_path / "out", push="me/mine")
    assert 'jaxgan.load("hf://me/mine")' in (tmp_path / "out/README.md").read_text()
    jaxgan.sharing.export.export(run, tmp_path / "out", push="spaces/me/mine")
    assert [call["repo_id"] for call in calls] == ["me/mine"] * 4
    assert [call["repo_type"] for call in calls] == ["model", "model", "space", "space"]
    assert [call.get("space_sdk") for call in calls] == [None, None, "gradio", None]
    assert all(pathlib.Path(call["folder_path"]) == tmp_path / "out" for call in calls[1::2])


def test_the_directory_is_a_space(directory):
    """Its page is `python app.py`, in the versions that are tested, of the project where it lives."""
    head = hub.RepoCard.load(directory / "README.md").data.to_dict()
    assert head["app_file"] == "app.py"
    assert (head["sdk"], head["pipeline_tag"]) == ("gradio", "unconditional-image-generation")  # of a Space, of a model
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["explore"] == [f"gradio>={head['sdk_version'].removesuffix('.0')}"]
    requirements = (directory / "requirements.txt").read_text()
    assert requirements == f"jaxgan[explore,hub] @ git+{project['urls']['Repository']}\n"
    code, called = (directory / "app.py").read_text(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxgan.sharing.server.explore", called.append)
        exec(compile(code, directory / "app.py", "exec"), {"__file__": str(directory / "app.py")})
    assert called == [directory.resolve()]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere", "--out=new"], "--workdir="),
        (["run"], "--out is not given"),
        (["run", "--out=taken"], "is there, and is no earlier export"),
        (["run", "--out=new", "--dtype=float64"], "--dtype='float64': choose one of"),
        (["run", "--out=new", "--push=name"], "--push='name': name a model of the Hub"),
        (["run", "--out=space"], "is there, and is no earlier export"),
        (["run", "more", "--out=new"], "arguments that mean nothing here: more"),
    ],
)
def test_wrong_requests(arguments, line, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").symlink_to(run)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.tex").write_text("all of it")
    (tmp_path / "space").mkdir()
    for name in ("README.md", "app.py", "requirements.txt"):
        (tmp_path / "space" / name).write_text("someone's own")
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_damaged_exports(directory, tmp_path):
    for name in (exported.WEIGHTS, exported.CONFIG):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    (tmp_path / exported.WEIGHTS).write_bytes((directory / exported.WEIGHTS).read_bytes()[:1000])
    with pytest.raises(RunFailed, match="damaged"):
        jaxgan.load(tmp_path)
    (tmp_path / exported.CONFIG).write_text("{}")
    with pytest.raises(RunFailed, match="no config"):
        jaxgan.load(tmp_path)
    with pytest.raises(ConfigError, match="one step only"):
        jaxgan.load(directory, step=3)
