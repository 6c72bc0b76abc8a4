"""Architectures, by the name that `config.model.name` gives them.

A module of this package offers `Generator` and `Discriminator`, Flax modules with the fields of `layers.Net` and, if
need be, fields of their own. `G_WIDTHS` and `D_WIDTHS` have the default `channels` of each image size that works.

    Generator()(z [B, Z], labels [B], train, keys) -> images [B, H, W, C], float32, those in [-1, 1] are shown
    Discriminator()(images, labels [B], train, keys) -> logits [B], float32, never probabilities

`keys` holds one PRNG key an example for what is random inside a net. A discriminator is a `layers.Critic` and ends in
one of its methods. `Discriminator.mixes_examples` says that a logit depends on the rest of its batch (batch norm), so
reals and fakes must be passed separately; `conditionings`, how it may hear of classes, if not in all of the ways.
"""

from jaxgan.models import biggan, dcgan, dcgan_strided, mlp, r3gan, r3gan2, sagan, sngan, stylegan2

MODELS = {
    "mlp": mlp,
    "dcgan": dcgan,
    "dcgan_strided": dcgan_strided,
    "sngan": sngan,
    "sagan": sagan,
    "biggan": biggan,
    "stylegan2": stylegan2,
    "r3gan": r3gan,
    "r3gan2": r3gan2,
}
