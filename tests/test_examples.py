"""The examples: each script runs, shrunk, and its notebook has the same code."""

import ast
import json
import runpy

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT

SCRIPT = ROOT / "examples" / "own_gan.py"


@pytest.mark.slow
def test_own_gan_trains_and_draws(tmp_path, monkeypatch):
    picture = tmp_path / "own_gan.png"
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--steps=10", f"--out={picture}"])
    names = runpy.run_path(str(SCRIPT))
    assert int(names["state"].step) == 10
    assert np.isfinite([float(value) for value in names["metrics"].values()]).all()
    with Image.open(picture) as image:
        pixels = np.asarray(image)
    assert pixels.shape[0] == pixels.shape[1] > 8 * 16
    assert pixels.std() > 10  # there is something on it


@pytest.mark.parametrize("steps", [0, 15])
def test_own_gan_refuses_steps_that_it_cannot_do(steps, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), f"--steps={steps}"])
    with pytest.raises(SystemExit, match=f"^error: --steps={steps}: must be a multiple of 10, above 0$"):
        runpy.run_path(str(SCRIPT))


def test_notebook_is_the_script():
    """The syntax trees are equal, so that what the script does the notebook does too."""
    cells = json.loads(SCRIPT.with_suffix(".ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    script = ast.parse(SCRIPT.read_text())
    script.body = script.body[1:]  # the docstring, which is text in the notebook
    again = "run python examples/to_notebook.py examples/own_gan.py"
    assert ast.dump(ast.parse(code)) == ast.dump(script), again
