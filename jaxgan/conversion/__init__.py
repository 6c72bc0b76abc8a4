"""Networks that other code bases have trained, made into runs of jaxgan.

- `run.py`: `convert`, which tells what a file is, checks what came of it, and writes the run
- `objects.py`: networks in what `jaxgan.core.torch_file` returns, as arrays by their names
- `state_dicts.py`: checkpoints of one file a net, which belong together by their names
- `layers.py`, `spectral.py`, `residual.py`: layers, the state of spectral norm, and residual nets of state dicts
- `stylegan2.py`, `stylegan2_tf.py`, `r3gan.py`, `mimicry.py`, `biggan_pytorch.py`, `studiogan.py`: a family each, from
  their names of arrays to ours

Nothing of a file is ever imported or called; what a file lacks is an error, never a default.
"""
