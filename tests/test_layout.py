"""The boundaries that keep the code simple, read from the syntax trees."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "jaxgan"
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}


def imports(tree):
    """Dotted names of everything that is imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def users(name):
    """Files that import `name` or something from it."""
    return {file for file, tree in TREES.items() if any(f"{i}.".startswith(f"{name}.") for i in imports(tree))}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("jaxgan.main", set()),
        ("tensorflow_datasets", {"data/tfds.py"}),
        ("tensorflow", set()),
        ("orbax", {"checkpoint.py"}),
        ("tensorboardX", {"log.py"}),
        ("ml_collections", {"config.py", "main.py", "plan.py"}),
        ("torch", set()),
    ],
)
def test_who_imports_what(name, allowed):
    assert users(name) <= allowed


def test_only_parallel_calls_pmap():
    callers = {
        file
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("pmap", "shard_map")
    }
    assert callers == {"parallel.py"}


@pytest.mark.parametrize("part", ["models", "extractors", "metrics", "ops"])
def test_parts_that_know_no_config(part):
    for file, tree in TREES.items():
        if file.startswith(f"{part}/"):
            assert not any(i.startswith("jaxgan.config") for i in imports(tree)), file


def test_metrics_and_diagnosis_never_see_a_network():
    for file, tree in TREES.items():
        if file.startswith("metrics/") or file == "diagnose.py":
            assert not any(i.startswith(("flax", "jaxgan.models", "jaxgan.state")) for i in imports(tree)), file
