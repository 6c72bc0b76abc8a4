"""What the pages say: their Python runs, their commands work or parse, and what they name is there."""

import contextlib
import dataclasses
import importlib
import pathlib
import re
import runpy
import shlex
import tomllib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import jaxgan
from jaxgan import config_files, data
from jaxgan.__main__ import COMMANDS
from jaxgan.evaluation import NETWORKS, PROTOCOLS
from jaxgan.planning import chips, plan, size
from jaxgan.planning.hlo import HloStats
from jaxgan.settings import default_config, flatten
from jaxgan.sharing.explorer import Explorer, Point
from jaxgan.sharing.export import export
from jaxgan.training import loop
from tests.helpers import ROOT, without_curves

PAGES = {
    file.relative_to(ROOT).as_posix(): file.read_text()
    for file in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")])
}
README, TEXT = PAGES["README.md"], "\n".join(PAGES.values()).replace("\\\n", " ")
TEXT = re.sub(r"(?<!`)`(?!`)[^`]+`(?!`)", lambda code: " ".join(code[0].split()), TEXT)  # code that a line break cuts
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COLAB = PROJECT["urls"]["Repository"].replace("github.com", "colab.research.google.com/github") + "/blob/main/"
FOLDERS = ("jaxgan", "tests", "configs", "docs", "examples", "tools", "benchmarks", "constraints", "notebooks")


def blocks(language: str) -> dict[str, str]:
    """Returns the fenced blocks of a language, by page and line."""
    found = {}
    for name, text in PAGES.items():
        for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if match[1] == language:
                found[f"{name}:{text[: match.start()].count(chr(10)) + 2}"] = match[2]
    return found


def table(heading: str) -> list[list[str]]:
    """Returns the cells of the one table whose first column has this heading, row by row."""
    (rows,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


PYTHON = blocks("python")
LAUNCHERS = {"main": "train"} | {name: name for name in COMMANDS if (ROOT / f"jaxgan/{name}.py").exists()}
STARTS = [f"jaxgan {name} " for name in COMMANDS] + [f"python -m jaxgan.{name} " for name in LAUNCHERS]
STARTS += ["jaxgan configs"]  # the one without flags
SHELL = dict.fromkeys(re.findall(rf"(?:^    |^\$ |`)((?:{'|'.join(STARTS)})[^`\n]*)", TEXT, re.MULTILINE))
SETTINGS = dict.fromkeys(re.findall(r"`(--config(?!\.KEY)[.=][^`]*)`", TEXT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with all that the pages speak of: a short run, pictures, arrays and config files."""
    folder = tmp_path_factory.mktemp("reader")
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    labels = np.arange(64) % 10
    config = shrunk("digits")
    config.train_kimg = 1.28
    config.model.conditional = True
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        without_curves(patch)
        assert jaxgan.train(config, "runs/cifar", jaxgan.ArrayDataset(images, labels)) == 0
        for name in ("numerals", "cifar_r3gan2", "source", "a", "b", "c"):
            pathlib.Path("runs", name).symlink_to("cifar")
        export("runs/cifar", "shared/cifar")
        np.savez("seed_0.npz", **Explorer(jaxgan.load("runs/cifar")).arrays([Point(0)]))
        pathlib.Path("configs").symlink_to(ROOT / "configs")
        for name in ("photos", "arrays", "path/to"):
            pathlib.Path(name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(images[i]).save(f"photos/{i}.png")
        np.savez("arrays/train.npz", images=images, labels=labels)
        for name in ("mine.py", "path/to/mine.py"):
            pathlib.Path(name).write_text("import jaxgan\ndef get_config(variant=''): return jaxgan.config('digits')\n")
    return folder, {"images": images, "labels": labels, "photos": images[:4]}


@pytest.fixture
def cwd(folder, monkeypatch):
    """The folder as the working directory; what is registered in the meantime is forgotten."""
    monkeypatch.chdir(folder[0])
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder[0] / "cache"))
    registries = [getattr(jaxgan, name) for name in jaxgan.__all__ if isinstance(getattr(jaxgan, name), dict)]
    before = [dict(registry) for registry in registries]
    yield folder[1]
    for registry, entries in zip(registries, before):
        registry.clear()
        registry.update(entries)


def train_step_shapes(config):
    """Traces a training step of a config, on its data if they are here."""
    spec = None
    if config.data.name != "cifar10":
        spec = jaxgan.DataSpec.from_dataset(data.load(config.data))
    recipe = jaxgan.recipe_from_config(config, spec)
    return jax.eval_shape(jaxgan.train_step, recipe, *size.step_shapes(recipe))


def shrunk(name: str):
    """Returns a config with the nets that are compiled the fastest, and few images to score."""
    config = jaxgan.config(name)
    config.eval.metrics, config.checkpoint.best_metric, config.health.every_kimg = (), "", 0.0
    config.penalty.r1.weight = 0.0
    config.model.name, config.model.g.channels, config.model.d.channels = "mlp", (8, 8), (8, 8)
    config.ema.sigma_rel, config.ema.posthoc = 0.1, (0.05,)
    return config


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("where", PYTHON)
def test_python_runs(where, cwd):
    code = PYTHON[where]
    if re.search(r"\btrain\(|Batches\(", code):
        code = code.replace("jaxgan.config(", "shrunk(")
    for long, short in (
        (r"config\.train_kimg = [\d.]+", "config.train_kimg = 0.64"),
        (r"last_step=\d+", "last_step=2"),
        (r"num=5000", "num=1000"),
        (r"invert\(generator, photos\)", "invert(generator, photos, steps=2)"),
    ):
        code = re.sub(long, short, code)
    page = {**cwd, "jaxgan": jaxgan, "shrunk": shrunk, "__name__": __name__}  # classes want a module that exists
    exec(compile(code, where, "exec"), page)
    if "get_config" in page:
        configs = [page["get_config"]("wide")]
        assert configs[0].to_dict() != page["get_config"]().to_dict()
    else:
        configs = [page["config"]] if isinstance(page.get("config"), ConfigDict) and "recipe" not in page else []
    for config in configs if "train(" not in code else ():
        train_step_shapes(config)
    for name in ("loss/d", "loss/g"):
        assert name not in page.get("metrics", {}) or np.isfinite(float(page["metrics"][name]))


def parse(line: str) -> tuple[str, list]:
    """Returns a command's name and what its function would be called with: nothing after --help."""
    words = shlex.split(line, comments=True)
    if words[0] == "python":
        words = ["jaxgan", LAUNCHERS[words[2].removeprefix("jaxgan.")], *words[3:]]
    name, calls = words[1], []
    main = importlib.import_module(f"jaxgan.commands.{name}").main
    assert dataclasses.replace(main, function=lambda *parsed: calls.append(parsed))(words[2:]) == 0
    return name, [value for call in calls for value in call]


@pytest.mark.parametrize("line", SHELL)
def test_commands(line, cwd):
    name, parsed = parse(line)
    if not parsed:
        assert "--help" in line or "--settings" in line
    elif name == "configs":
        assert len(parsed) == 1
    elif name in ("train", "plan"):
        flags, config = parsed
        recipe = jaxgan.recipe_from_config(config)
        loop.check(config, recipe, 1)
        if name == "plan":
            assert flags.topology.partition(":")[0] in chips.CHIPS
    elif name == "export" and parsed[0].push:
        assert parsed[0].push.removeprefix("spaces/").count("/") == 1
    elif name == "evaluate":
        assert set(parsed[0].metrics or ()) <= set(jaxgan.METRICS)
    elif name == "explore":
        assert jaxgan.load(parsed[0].workdir).image_shape == (8, 8, 3)
    elif name == "convert":
        assert parsed[0].file.endswith((".pkl", ".pth"))
        assert not parsed[0].out.startswith("-")
    else:
        out = pathlib.Path(parsed[0].out or "runs/cifar/report.html")
        main = importlib.import_module(f"jaxgan.commands.{name}").main
        shorter = ["--steps=2"] if name == "sample" and parsed[0].invert else []
        shorter += ["--seconds=0.2"] if out.suffix in (".webp", ".gif", ".mp4") else []
        assert main([*shlex.split(line, comments=True)[2:], *shorter]) == 0
        assert out.exists()


@pytest.mark.parametrize("span", SETTINGS)
def test_settings(span, cwd):
    _, (_, config) = parse(f"jaxgan train --config=cifar {span}")
    jaxgan.recipe_from_config(config)


def test_no_example_is_left_out():
    """Every code block and every command line with a flag is one that a test above runs or parses."""
    for name, text in PAGES.items():
        assert set(re.findall(r"^ *```(\w+)", text, re.MULTILINE)) <= {"python"}, name
    for line in re.findall(rf"(?:{'|'.join(STARTS)})--[^`\n]*", TEXT):
        assert line in SHELL


def test_every_flag_and_key_exists():
    commands = [importlib.import_module(f"jaxgan.commands.{name}").main for name in COMMANDS]
    flags = {"help", "version", "settings"} | {flag for command in commands for flag in command.flags}
    named = set(
        re.findall(
            r"(?<![-|\w])--(?!config\.)(?:no)?([a-z_]\w*)",
            re.sub(r"tensorboard --logdir|--xla_\w+|--hier --G_shared", "", TEXT),
        )
    )
    assert {"workdir", "invert", "protocol", "topology"} <= named <= flags
    known = flatten(default_config())
    keys = set(re.findall(r"(?:--|`)config\.([a-z_0-9.]*[a-z_0-9])", TEXT))
    assert {"batch_size", "optim_d.lr", "penalty"} <= keys
    assert all(key in known or any(name.startswith(f"{key}.") for name in known) for key in keys - {"json"})


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths(page):
    text = PAGES[page]
    anchors = {
        name: {
            re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
            for title in re.findall(r"^#+ (.*)", text, re.M)
        }
        for name, text in PAGES.items()
    }
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", prose)
    for link in map("".join, links):
        link = re.sub(f"^{re.escape(COLAB)}", "../" * page.count("/"), link)
        target, _, anchor = link.partition("#")
        file = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert file.exists(), link
        if anchor:
            assert anchor in anchors[file.relative_to(ROOT).as_posix()], link
    for path in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[^`\s*]*)`", text):
        assert (ROOT / path).exists(), path


def test_make_and_pip():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", TEXT, re.MULTILINE))
    assert {"quickstart", "lint", "test"} <= named <= targets
    extras = set(PROJECT["optional-dependencies"])
    named = set(re.findall(r"'\.\[(\w+)\]'", TEXT)) | set(re.findall(r"\bextra\s+`(\w+)`", TEXT))
    assert {"cuda", "tpu", "plan", "gcs"} <= named <= extras


def test_tables_have_everything():
    metrics = [name for row in table("metrics") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(metrics) == sorted(jaxgan.METRICS)
    for row in table("metrics"):
        (network,) = {jaxgan.METRICS[name].features.split("/")[0] for name in re.findall(r"`(\w+)`", row[0])}
        assert network in NETWORKS
    protocols = {name: row for row in table("`--protocol`") for name in re.findall(r"`(\w+)`", row[0])}
    assert protocols.keys() == PROTOCOLS.keys()
    for name, (_, fakes, reals, statistics, splits, step) in protocols.items():
        protocol = PROTOCOLS[name]
        assert fakes == f"{protocol.num:,}"
        assert reals.startswith(f"{protocol.num_reals:,}" if protocol.num_reals else "all")
        assert {"train": "training", "test": "test"}[protocol.split] in reals
        assert str(protocol.standing_batches or "running") in statistics
        assert re.search(rf"\b{protocol.is_splits} split", splits)
        assert step == protocol.step
    linked = re.findall(r"\[`(\w+)`\]\(configs/(\w+)\.py\)", README)
    assert sorted(linked) == sorted((name, name) for name in config_files.packaged())
    for cells in table(r"config \| G, D parameters \(millions\)"):
        name, operations, published = cells[0].strip("`"), *cells[3:]
        _, cost, score = config_files.describe(config_files.packaged()[name])
        assert cost.partition(",")[0] == f"{operations} EFLOP" * bool(operations)
        assert score.split(",")[0] == f"FID {published.split()[0]}" * bool(operations)
    rooms = {row[0].split("`")[1] for row in table("room")}
    folders = {f"jaxgan/{file.parent.name}" for file in ROOT.glob("jaxgan/*/__init__.py")}
    assert rooms == folders | {"jaxgan/settings.py"}
    registers = set(re.findall(r"`jaxgan\.([A-Z]+)`", "".join(row[2] for row in table("to add"))))
    assert registers == {name for name in jaxgan.__all__ if isinstance(getattr(jaxgan, name), dict)}


def test_api_reference_has_the_whole_face():
    entries = re.findall(
        r"^::: (\S+)\.\w+\n    options:\n      heading: jaxgan\.(\w+)", PAGES["docs/api.md"], re.MULTILINE
    )
    assert sorted(name for _, name in entries) == sorted({*jaxgan.__all__} - {"__version__"})
    for module, name in entries:
        assert getattr(importlib.import_module(module), name) is getattr(jaxgan, name)


def test_words_of_inline_code_are_marked_and_blocks_are_not():
    mark = runpy.run_path(ROOT / "tools/whole_words.py")["on_page_content"]
    block = "<pre><span></span><code>jaxgan configs</code></pre>"
    marked = "<code><span>jaxgan</span> <span>--version</span></code>"
    assert mark(f"<p><code>jaxgan --version</code></p>{block}") == f"<p>{marked}</p>{block}"


def test_every_warning_is_explained():
    symptoms = re.findall(r'HealthWarning\(\s*"([^"]+)"', (ROOT / "jaxgan/training/health.py").read_text())
    assert symptoms == [row[0].strip("`") for row in table("warning")]


@pytest.mark.long
def test_parameters_and_operations_of_the_published_recipes():
    rows = [row for row in table(r"config \| G, D parameters \(millions\)") if row[3]]
    assert len(rows) == 9
    for name, parameters, images, operations, _ in rows:
        config = jaxgan.config(name.split("`")[1])
        recipe = jaxgan.recipe_from_config(config)
        state, _, _ = size.step_shapes(recipe)
        counts = [sum(x.size for x in jax.tree.leaves(net.params)) for net in (state.g, state.d)]
        assert parameters == ", ".join(f"{count / 1e6:.1f}" for count in counts), name
        assert float(images.removesuffix(" M")) == config.train_kimg / 1e3, name
        total = size.operations_per_image(recipe) * config.train_kimg * 1e3 / 1e18
        digits = len(operations.partition(".")[2])
        assert f"{total:.{digits}f}" == operations, name


def row_names(text: str) -> list[str]:
    return re.findall(r"^  (\S+(?: \S+)*?)  ", text, re.MULTILINE)


def test_example_of_a_report(cwd, capsys):
    (example,) = [block for block in blocks("").values() if block.startswith("$ jaxgan evaluate")]
    words = shlex.split(example.splitlines()[0])
    main = importlib.import_module("jaxgan.commands.evaluate").main
    metrics = ",".join(jaxgan.config("numerals").eval.metrics)  # those of the run that the example is of
    run = ["--num=1000", f"--metrics={metrics}", "--reals=arrays/train.npz"]  # of two --num the last counts
    assert main([*words[3:], *run]) == 0
    printed, _, _ = capsys.readouterr().out.partition("\n{")
    assert row_names(example) == row_names(printed)
    assert "fd_numerals" in row_names(printed)


def test_example_of_a_plan():
    (example,) = [block for block in blocks("").values() if "all-reduces" in block]
    config = jaxgan.config("cifar_sngan")
    recipe = jaxgan.recipe_from_config(config)
    chip, hlo = chips.CHIPS["v5e"], HloStats(2.5e9, 55, 2**20, 0, 247, 247)
    planned = plan.Plan(recipe, 8, chip, hlo, 2**27, 2**26, 2**26, 2e11, 15.0)
    lines = plan.report(planned, planned, config.eval.metrics)
    assert re.search("scores .*", example)[0] == re.search("scores .*", lines)[0]
    assert row_names(example) == row_names(lines)
    gflop = size.operations_per_image(recipe) / 1e9
    assert float(re.search(r"([\d.]+) GFLOP an image", example)[1]) == pytest.approx(gflop, abs=0.02)
