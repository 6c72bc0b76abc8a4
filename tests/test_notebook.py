"""The Colab notebook, run from top to bottom on a checkpoint made here."""

import pathlib

import pytest

from tests.test_train import ROOT, tiny_config


@pytest.mark.slow
# The kernel's own libraries warn on some Python versions; the notebook's cells fail on their own errors.
@pytest.mark.filterwarnings("ignore")
def test_colab_notebook(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    from jaxgan.training.loop import train

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    train(tiny_config(), tmp_path / "run")
    notebook = nbformat.read(pathlib.Path(ROOT) / "notebooks" / "colab.ipynb", as_version=4)
    replaced = {"%pip install -q ./jaxgan": "", 'CHECKPOINT = "runs/digits"': f'CHECKPOINT = "{tmp_path}/run"'}
    for cell in notebook.cells:
        cell.source = replaced.pop(cell.source, cell.source)
    assert not replaced  # both cells are still there
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
    assert (tmp_path / "samples.npz").exists()
