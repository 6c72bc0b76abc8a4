"""CIFAR-10 with WGAN-GP (Gulrajani et al. 2017) on SNGAN's residual nets, unconditional, as mimicry trains it.

    jaxgan train --config=cifar_wgan_gp

Cost: 0.23 EFLOP; score: FID 22.29, published.

Recipe: Wasserstein loss, gradient penalty of weight 10 at every D step, no normalisation in D, Adam 2e-4 (0, 0.9),
batch 64, 5 D steps for each G step, learning rate linear to 0 over 100,000 G steps (32 million real images).
StudioGAN's WGAN-GP, of nearly the same size, took 10 h 49 min including evaluation, on hardware that it does not state.
Published: FID 22.29 +- 0.06, IS 7.33 +- 0.02 (mimicry, 50k samples against 50k training images). Ours: not yet
measured.

Deviations: nearest-neighbour upsampling (mimicry's is bilinear).
"""

import jaxgan


def get_config():
    config = jaxgan.config("cifar_sngan:unconditional")
    config.model.d.spectral = False
    config.loss = "wgan"
    config.penalty.gp.weight = 10.0
    return config
