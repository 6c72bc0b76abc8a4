"""DCGAN of strided convolutions alone, as in the paper (Radford et al. 2016); StudioGAN pairs each with another.

At 32 pixels, 256-128-64 and back: G has 1,187,907 and D 663,745 parameters.
"""

from jaxgan.models import dcgan

G_WIDTHS = {size: widths[1:] for size, widths in dcgan.G_WIDTHS.items()}
D_WIDTHS = {size: widths[::-1] for size, widths in G_WIDTHS.items()}


class Generator(dcgan.Generator):
    strided_only: bool = True


class Discriminator(dcgan.Discriminator):
    strided_only: bool = True
