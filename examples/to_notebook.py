"""Writes a script as the notebook beside it, without outputs.

    python examples/to_notebook.py examples/own_gan.py

A line "# %%" begins a cell; the comment that a cell begins with, and the script's docstring, become text.
"""

import json
import pathlib
import sys


def notebook(script: str) -> str:
    """Returns a script as a notebook, in JSON."""
    docstring, *cells = script.split("# %%\n")
    texts = [("markdown", "# " + docstring.strip().strip('"'))]
    for cell in cells:
        lines = cell.splitlines()
        end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
        texts.append(("markdown", "\n".join(line[2:] for line in lines[:end])))
        texts.append(("code", "\n".join(lines[end:])))
    entries = []
    for kind, text in texts:
        if text := text.strip():
            extra = dict(execution_count=None, outputs=[]) if kind == "code" else {}
            source = text.splitlines(keepends=True)
            entries.append(dict(cell_type=kind, id=f"cell-{len(entries)}", metadata={}, source=source, **extra))
    kernel = dict(display_name="Python 3", language="python", name="python3")
    whole = dict(cells=entries, metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for file in map(pathlib.Path, sys.argv[1:]):
        file.with_suffix(".ipynb").write_text(notebook(file.read_text()))
