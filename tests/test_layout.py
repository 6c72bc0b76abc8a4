"""The rooms of the package, who may import whom, and how its pages look; all read from the syntax trees."""

import ast
import functools
import graphlib
import pathlib

import pytest

PROJECT = pathlib.Path(__file__).parents[1]
ROOT = PROJECT / "jaxgan"
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}

# A room is a folder or a file of jaxgan/. It imports itself and these, in functions too; no more, and no fewer.
ROOMS = {
    "core": set(),
    "ops": set(),
    "models": {"core", "ops"},
    "data": {"core"},
    "gan": {"core", "models", "data", "ops"},
    "settings": {"core", "gan", "models"},
    "config_files": {"core"},
    "sampling": {"core", "data", "gan", "settings"},
    "evaluation": {"core", "data", "models", "sampling", "settings"},
    "training": {
        "core",
        "config_files",
        "data",
        "gan",
        "settings",
        "sampling",
        "evaluation",
        "planning",
        "__init__",
    },
    "conversion": {"core", "data", "gan", "settings"},
    "planning": {"core", "data", "evaluation", "gan", "ops"},
    "sharing": {"core", "data", "sampling", "training"},
    "commands": {
        "core",
        "sharing",
        "config_files",
        "gan",
        "settings",
        "sampling",
        "evaluation",
        "training",
        "conversion",
        "planning",
        "__init__",
    },
    "main": {"commands"},
    "sample": {"commands"},
    "evaluate": {"commands", "evaluation"},
    "convert": {"commands", "conversion"},
    "plan": {"commands"},
    "report": {"commands"},
    "export": {"commands"},
    "explore": {"commands"},
    "__main__": {"commands", "core", "__init__"},
}
FACE = "__init__"  # shows what is in the rooms, which import it for the version only

# Who imports a package: these files and no others.
PACKAGES = {
    "orbax": {"core/checkpoint.py"},
    "jax.experimental.multihost_utils": {"core/checkpoint.py", "core/parallel.py", "evaluation/features.py"},
    "tensorflow_datasets": {"data/tfds.py", "data/cifar10.py"},
    "tensorboardX": {"training/trackers.py"},
    "wandb": {"training/trackers.py"},
    "filelock": {"core/files.py"},
    "gradio": {"sharing/page.py"},
    "ml_collections": {"settings.py", "config_files.py", "commands/app.py", "gan/recipe.py", "training/loop.py"},
    "tensorflow": set(),
    "torch": set(),
}


@functools.cache
def imports(file: str) -> frozenset[str]:
    """Returns the dotted names of everything that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def users(name: str) -> set[str]:
    """Returns the files that import `name` or something from it."""
    return {file for file in TREES if any(f"{imported}.".startswith(f"{name}.") for imported in imports(file))}


def assert_equal(found: set, listed: set) -> None:
    assert found == listed, f"found, not listed: {sorted(found - listed)}; listed, not found: {sorted(listed - found)}"


def test_every_room_is_in_the_table():
    assert_equal({room(file) for file in TREES} - {FACE}, ROOMS.keys())


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_what_the_table_says(name):
    found = set()
    for file in TREES:
        if room(file) == name:
            for imported in imports(file):
                package, _, rest = imported.partition(".")
                if package == "jaxgan":
                    target = rest.split(".")[0]
                    found.add(target if target in ROOMS else FACE)
    assert_equal(found - {name}, ROOMS[name])


def test_no_room_stands_on_itself():
    graphlib.TopologicalSorter({name: others - {FACE} for name, others in ROOMS.items()}).prepare()  # or a CycleError


@pytest.mark.parametrize("name", PACKAGES)
def test_who_imports_a_package(name):
    distribution = name.split(".")[0].replace("_", "-")
    text = (PROJECT / "pyproject.toml").read_text().replace("_", "-")
    assert f'"{distribution}' in text, "a name that the project does not know would always pass"
    assert_equal(users(name), PACKAGES[name])


@pytest.mark.parametrize("function", ["pmap", "shard_map"])
def test_only_parallel_maps_over_devices(function):
    callers = {
        file
        for file, tree in TREES.items()
        if any(isinstance(node, ast.Attribute) and node.attr == function for node in ast.walk(tree))
        or any(imported.endswith(f".{function}") for imported in imports(file))
    }
    assert_equal(callers, {"core/parallel.py"})


@pytest.mark.parametrize("part", ["evaluation/metrics/", "training/health.py"])
def test_what_judges_numbers_never_sees_a_network(part):
    files = [file for file in TREES if file.startswith(part)]
    assert files
    for file in files:
        assert not any(name.startswith(("flax", "jaxgan.models", "jaxgan.gan")) for name in imports(file)), file


# How pages look.


def docstrings(tree):
    """Yields (name, docstring or None) of the module and of every class and function in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "name", "module"), ast.get_docstring(node)


@pytest.mark.parametrize("file", TREES)
def test_pages(file):
    found = list(docstrings(TREES[file]))
    assert found[0][1], "every file says what lives in it; a folder's __init__ also says what may not"
    prepositions = {"Of", "By", "For", "From", "In", "To", "With", "At", "On"}
    wrong = [(name, text) for name, text in found if text and text.split()[0] in prepositions]
    assert not wrong, "a docstring is a sentence and begins with a verb"
    most = 79 if file.startswith("commands/") and file != "commands/app.py" else 400
    assert len((ROOT / file).read_text().splitlines()) <= most
    assert file.endswith("__init__.py") or "/" not in file or f"{file.rpartition('/')[0]}/__init__.py" in TREES
