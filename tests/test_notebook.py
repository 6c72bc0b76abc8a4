"""The notebooks, run from top to bottom as they are, each in an empty folder."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.helpers import ROOT

URL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
PICTURES = {"colab": 2, "own_images": 4}  # that a notebook shows


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this package."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.long
# The kernel's own libraries warn on some Python versions; the notebook's cells fail on their own errors.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PICTURES)
def test_run_all(name, wheel, tmp_path, monkeypatch):
    import nbclient
    import nbformat

    # What pip installs goes where the kernel looks first, and nothing comes from a network.
    installed, folder = tmp_path / "installed", tmp_path / "empty"
    folder.mkdir()
    variables = {"JAXGAN_SOURCE": wheel, "PIP_TARGET": installed, "PYTHONPATH": installed}
    variables["PATH"] = f"{installed / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables |= {"PIP_NO_DEPS": 1, "PIP_NO_INDEX": 1, "XDG_CACHE_HOME": tmp_path / "cache"}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, str(value))
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    assert (installed / "jaxgan" / "configs" / "numerals.py").exists()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[name]
    assert os.listdir(folder / "runs")


@pytest.mark.parametrize("name", PICTURES)
def test_notebooks_name_the_one_url(name):
    text = (ROOT / "notebooks" / f"{name}.ipynb").read_text()
    assert re.findall(r"https://github.com/[^\s\"\\]+", text) == [URL]
