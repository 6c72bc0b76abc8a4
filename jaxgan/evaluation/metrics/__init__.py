"""Metrics as functions of numpy arrays: features, logits and labels in, floats out.

One file a family, each with its definition, range and source. Nothing here knows of networks, images, generators or
names in a config; `checks.py` has what all of them ask of their arrays.
"""
