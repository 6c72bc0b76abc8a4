"""SAGAN (Zhang et al. 2019): SNGAN's nets with self-attention at half the image's size and spectral norm in G too.

As in StudioGAN, at 32 pixels with 10 classes G has 4,386,308 and D 1,075,586 parameters; all start orthogonal.
"""

from jaxgan.models import sngan
from jaxgan.models.layers import bounded


class Generator(sngan.Generator):
    """Is the generator of SNGAN with spectral norm on all weights, and attention."""

    attention_size: int | None = None
    orthogonal_init: bool = True
    spectral: bool = True
    bn_eps: float = bounded(1e-4)


class Discriminator(sngan.Discriminator):
    """Is the discriminator of SNGAN with attention."""

    attention_size: int | None = None
    orthogonal_init: bool = True
    relu_skips: bool = True
