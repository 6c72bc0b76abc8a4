"""Provides 2-D convolutions that are fast to train on a CPU, and are XLA's own on GPUs and TPUs.

api.py         `conv` and `conv_transpose`: all that someone on a GPU ever reads
primitives.py  the three JAX primitives that both are made of, their derivatives, and XLA's implementation of each
cpu.py         the implementation for CPUs
gpu.py         what is not XLA's own on NVIDIA GPUs
"""

from jaxgan.ops.conv.api import conv as conv
from jaxgan.ops.conv.api import conv_transpose as conv_transpose
