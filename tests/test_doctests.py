"""The examples in docstrings: every `>>>` of the package runs and gives what stands below it."""

import doctest
import importlib
import pathlib

import pytest

import jaxgan

ROOT = pathlib.Path(jaxgan.__file__).parent
FILES = [path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_examples(file):
    module = importlib.import_module(".".join(["jaxgan", *file.with_suffix("").parts]))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
