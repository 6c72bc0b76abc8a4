"""Measures of a generator: arrays in, floats out."""
