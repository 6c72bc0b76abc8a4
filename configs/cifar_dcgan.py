"""CIFAR-10 with DCGAN (Radford et al. 2016), unconditional, as StudioGAN trains it.

    jaxgan train --config=cifar_dcgan

Cost: 0.05 EFLOP; score: FID 48.29, published.

Recipe: non-saturating loss, batch norm in both nets, Adam 2e-4 (0.5, 0.999), batch 64, 2 D steps for each G step,
200,000 G steps (25.6 million real images), random horizontal flips. StudioGAN's run took 5 h 09 min including
evaluation, on hardware that it does not state. Published: FID 48.29, IS 6.11 (StudioGAN, best checkpoint, 50k samples
against 50k training images). Ours: not yet measured.

Deviations: batch norm uses its running statistics, which StudioGAN measures anew before it evaluates.
"""

from jaxgan.settings import default_config, report_on_cifar


def get_config():
    config = default_config()
    config.model.name = "dcgan"
    config.loss = "ns"
    config.d_steps = 2
    config.train_kimg = 25_600.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 0.0
    config.log.every_kimg = 12.8
    report_on_cifar(config, every_kimg=256.0)
    return config
