"""DCGAN of strided convolutions alone, as in the paper (Radford et al. 2016); StudioGAN pairs each with another.

At 32 pixels, with widths of 256, 128 and 64, G has 1,187,907 and D 663,745 parameters.
"""

from typing import ClassVar

from jaxgan.models import dcgan


class Generator(dcgan.Generator):
    """Is the generator of dcgan.py with transposed convolutions only."""

    WIDTHS: ClassVar = {size: widths[1:] for size, widths in dcgan.Generator.WIDTHS.items()}
    strided_only = True


class Discriminator(dcgan.Discriminator):
    """Is the discriminator of dcgan.py with strided convolutions only."""

    WIDTHS: ClassVar = {size: widths[:-1] for size, widths in dcgan.Discriminator.WIDTHS.items()}
    strided_only = True
