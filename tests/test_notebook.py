"""The Colab notebook, run from top to bottom in an empty folder."""

import pytest

from tests.helpers import ROOT


@pytest.mark.slow
# The kernel's own libraries warn on some Python versions; the notebook's cells fail on their own errors.
@pytest.mark.filterwarnings("ignore")
def test_colab_notebook(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "notebooks" / "colab.ipynb", as_version=4)
    small = "config.train_kimg, config.eval.metrics, config.checkpoint.best_metric = 0.64, (), ''"
    for old, new in (("%pip install -q {SOURCE}", ""), ("config.train_kimg = 128.0", small)):
        (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source]
        cell.source = cell.source.replace(old, new)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
    assert (tmp_path / "samples.npz").exists()
    assert (tmp_path / "runs" / "digits" / "checkpoints" / "10").exists()
