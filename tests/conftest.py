"""Eight simulated CPU devices for every test; set before jax is imported."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
# XLA sizes its thread pool by this; fewer threads than simulated devices can dead-lock a collective.
os.environ["NPROC"] = "16"
