"""Holds operations on arrays that know nothing of GANs, and the count of what they cost.

    conv/      2-D convolutions, differentiable to any order, that are also fast to train on a CPU
    blur.py    resampling with a low-pass filter, alone and around a convolution
    colour.py  colours in coordinates that photographs vary in apart, for nets to see and to paint
    flops.py   floating-point operations of any JAX function

Everything here is a pure function of arrays (or of functions and their shapes) and of plain Python values. A config, a
network or its parameters, a data set, a file or a key for random numbers has no place in this room. It may import
`jaxgan.core`, and nothing else of the package.
"""
