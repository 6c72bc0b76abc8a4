"""Two simulated CPU devices for every test, and one compilation cache for all of them.

What more devices or processes take is in `tests.helpers`. The environment must be set before jax is imported.
"""

import os
import shutil
import signal
import sys
import tempfile
from importlib import metadata

import pytest

# Dozens of processes import JAX, which takes three times as long where no bytecode of it is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests send signals to themselves and to what they start, which a process in the background may have to ignore.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little: without optimisations and with XLA's older code for fusions, which compiles
# three times as fast, they take a sixth of the time.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):  # since then there is no older code
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

# Tests repeat each other's programs: what one compiled, another process of the same test run may load.
_OWNS_CACHE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _OWNS_CACHE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxgan-xla-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_unconfigure(config):
    if _OWNS_CACHE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture
def no_curves(monkeypatch):
    """Spares runs their curves.png."""
    from tests.helpers import without_curves  # which imports jax

    without_curves(monkeypatch)


@pytest.fixture(scope="module")
def browser():
    """A Chromium that is installed, without a window."""
    reason = "playwright is not installed (pip install playwright)"
    sync_playwright = pytest.importorskip("playwright.sync_api", reason=reason).sync_playwright
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
