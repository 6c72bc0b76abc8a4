"""CIFAR-10 with SAGAN (Zhang et al. 2019), class-conditional, as StudioGAN trains it.

    jaxgan train --config=cifar_sagan

Cost: 0.19 EFLOP; score: FID 10.35, published.

Recipe: SNGAN's nets with self-attention at 16x16 and spectral norm in both, hinge loss, Adam 2e-4 (0.5, 0.999), batch
64, 5 D steps for each G step, 100,000 G steps (32 million real images), random horizontal flips. StudioGAN's run took
9 h 20 min including evaluation, on hardware that it does not state. Published: FID 10.35, IS 8.64 (StudioGAN, best
checkpoint, 50k samples against 50k training images). Ours: not yet measured.

Deviations: batch norm uses its running statistics, which StudioGAN measures anew before it evaluates.
"""

from jaxgan.settings import default_config, report_on_cifar


def get_config():
    config = default_config()
    config.model.name = "sagan"
    config.model.conditional = True
    config.d_steps = 5
    config.train_kimg = 32_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 0.0
    config.log.every_kimg = 32.0
    report_on_cifar(config, every_kimg=320.0)
    return config
