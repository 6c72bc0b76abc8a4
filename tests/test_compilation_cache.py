"""A compiled program that is damaged on the disk is compiled and written anew, with one line."""

import warnings

import jax
import pytest

from jaxgan.core.compilation_cache import keep_compiled


@pytest.fixture
def cache(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(("action", "line"), [("reading", "damaged, so it is compiled anew"), ("writing", "not kept")])
def test_a_damaged_program_is_removed(action, line, cache, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda *args, **kwargs: shown.append(args))
    for program in ("jit_step-1a-cache", "jit_step-2b-cache", "jit_init-3c-cache"):
        (cache / program).touch()
    keep_compiled()
    text = f"Error {action} persistent compilation cache entry for 'jit_step': error: Error -5"
    warnings.showwarning(UserWarning(text), UserWarning, "compiler.py", 1)
    assert [path.name for path in cache.iterdir()] == ["jit_init-3c-cache"]
    assert not shown
    message = capsys.readouterr().err
    assert line in message
    assert message.count("\n") == 1
    warnings.showwarning(UserWarning("another"), UserWarning, "file.py", 1)
    assert len(shown) == 1
    once = warnings.showwarning
    keep_compiled()
    assert warnings.showwarning is once
