"""CIFAR-10 with BigGAN (Brock et al. 2019), class-conditional, as StudioGAN trains it.

    jaxgan train --config=cifar_biggan

Cost: 0.43 EFLOP; score: FID 4.16, published.

Recipe: hinge loss, spectral norm and self-attention at 16x16 in both nets, Adam 2e-4 (0.5, 0.999), batch 64, 5 D steps
for each G step, 100,000 G steps (32 million real images), EMA of G with a decay of 0.9999 a step, random horizontal
flips. StudioGAN's run took 12 h 48 min including evaluation, on hardware that it does not state. Published: FID 4.16,
IS 9.96 (StudioGAN, best checkpoint, 50k samples against 50k training images). Ours: not yet measured.

Deviations: the half-life of the EMA starts at 5% of the images seen so far (StudioGAN starts the full EMA after 1,000
steps without one); batch norm uses its running statistics, which StudioGAN measures anew before it evaluates.

With consistency regularisation (Zhang et al. 2020); published FID 3.16, IS 10.09 (StudioGAN's CRGAN):

    --config.penalty.cr.weight=10
"""

from jaxgan.settings import default_config, report_on_cifar


def get_config():
    config = default_config()
    config.model.name = "biggan"
    config.model.z_dim = 80
    config.model.conditional = True
    config.d_steps = 5
    config.train_kimg = 32_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 2218.0  # 0.9999 a G step of 320 real images
    config.log.every_kimg = 32.0
    report_on_cifar(config, every_kimg=320.0)
    return config
