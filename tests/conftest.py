"""Eight simulated CPU devices for every test; set before jax is imported."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little: without LLVM's optimisations they take a third of the time.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
# XLA sizes its thread pool by this; fewer threads than simulated devices can dead-lock a collective.
os.environ["NPROC"] = "16"
