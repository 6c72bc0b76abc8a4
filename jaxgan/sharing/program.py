"""A generator as a program: StableHLO with its weights inside, for CPUs, NVIDIA GPUs and TPUs, which needs JAX only."""

import jax
import jax.numpy as jnp
from jax import export
from jax.scipy.special import ndtr, ndtri

from jaxgan.core import rng
from jaxgan.sampling.generator import Generator, generate

PLATFORMS = ("cpu", "cuda", "tpu")


def serialize(generator: Generator) -> bytes:
    """Returns a program of latents float32 [B, Z], labels int32 [B] and a truncation, float32, to images uint8.

    The truncation is as in `Generator.sample`, and infinity (1 where there are styles) is none: the program shrinks the
    latents that it is given onto the bound. B is any number of images. `jax.export.deserialize(program).call(...)` runs
    it.
    """
    (batch,) = export.symbolic_shape("b")
    arguments = (
        jax.ShapeDtypeStruct((batch, generator.z_dim), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.float32),
    )
    exported = export.export(jax.jit(lambda *inputs: images(generator, *inputs)), platforms=PLATFORMS)(*arguments)
    return bytes(exported.serialize())


def images(generator: Generator, z, labels, truncation):
    """Returns what the program computes, uint8 [B, H, W, C]; pure.

    The noise inside a net is that of seed 0 by the place in the batch.
    """
    keys = rng.example_keys(rng.stream_key(jax.random.key(0), rng.Stream.SAMPLE_NOISE), jnp.arange(z.shape[0]))
    if not generator.has_styles:
        return generate(generator.module, generator.variables, within(z, truncation), labels, keys)

    def one(inputs):  # kernels that differ from image to image allow no batch of unknown size
        z, label, key = (x[None] for x in inputs)
        return generate(generator.module, generator.variables, z, label, key, truncation)[0]

    return jax.lax.map(one, (z, labels, keys))


def within(z, bound):
    """Returns normal numbers as normal numbers given that they are within +-bound, in the same order."""
    bounded = ndtri(ndtr(-bound) + ndtr(z) * (ndtr(bound) - ndtr(-bound)))
    return jnp.where(jnp.isfinite(bound), jnp.clip(bounded, -bound, bound), z)
