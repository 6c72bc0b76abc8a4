"""jaxgan: train, resume, measure, look at and share GANs in JAX."""


def load(path, step=None):
    """The averaged generator of a run, a checkpoint directory or one checkpoint: see `jaxgan.generator.load`."""
    from jaxgan.sampling import generator

    return generator.load(path, step)
