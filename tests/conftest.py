"""Eight simulated CPU devices for every test, and one compilation cache for all of them; set before jax is imported."""

import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little: without LLVM's optimisations they take a third of the time.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
# XLA sizes its thread pool by this; fewer threads than simulated devices can dead-lock a collective.
os.environ["NPROC"] = "16"

# Tests repeat each other's programs: what one compiled, another process of the same session may load.
_OWNER = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _OWNER:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxgan-xla-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_unconfigure(config):
    if _OWNER:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
