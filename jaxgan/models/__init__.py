from jaxgan.models import biggan, dcgan, dcgan_strided, mlp, r3gan, r3gan2, sagan, sngan, stylegan2

MODELS = {
    "mlp": (mlp.Generator, mlp.Discriminator),
    "dcgan": (dcgan.Generator, dcgan.Discriminator),
    "dcgan_strided": (dcgan_strided.Generator, dcgan_strided.Discriminator),
    "sngan": (sngan.Generator, sngan.Discriminator),
    "sagan": (sagan.Generator, sagan.Discriminator),
    "biggan": (biggan.Generator, biggan.Discriminator),
    "stylegan2": (stylegan2.Generator, stylegan2.Discriminator),
    "r3gan": (r3gan.Generator, r3gan.Discriminator),
    "r3gan2": (r3gan2.Generator, r3gan2.Discriminator),
}
