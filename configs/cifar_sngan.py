"""CIFAR-10 with SNGAN's residual nets (Miyato et al. 2018, Miyato & Koyama 2018), as two repositories train them.

    jaxgan train --config=cifar_sngan

Cost: 0.19 EFLOP; score: FID 9.01, published.

With classes as StudioGAN does it: hinge loss, orthogonal initial weights, Adam 2e-4 (0.5, 0.999), batch 64, 5 D steps
for each G step, 100,000 G steps (32 million real images), random horizontal flips. StudioGAN's run took 9 h 23 min
including evaluation, on hardware that it does not state. Published: FID 9.01, IS 8.83 (StudioGAN, best checkpoint, 50k
samples against 50k training images). Ours: not yet measured.

    jaxgan train --config=cifar_sngan:unconditional

Without labels as mimicry does it: Glorot initial weights, Adam 2e-4 (0, 0.9), learning rate linear to 0, no flips.
Published: FID 16.77 +- 0.04, IS 7.97 (mimicry, after the last of 100,000 G steps, 50k samples against 50k training
images). Ours: not yet measured.

Deviations: batch norm uses its running statistics, which StudioGAN measures anew before it evaluates; upsampling
without labels is nearest-neighbour (mimicry's is bilinear).
"""

from jaxgan.settings import default_config, is_conditional, report_on_cifar


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "cifar_sngan")
    config.d_steps = 5
    config.train_kimg = 32_000.0
    config.ema.half_life_kimg = 0.0
    config.data.flip = config.model.conditional
    if config.model.conditional:
        config.model.g.orthogonal_init = config.model.d.orthogonal_init = True
        config.model.g.bn_eps = 1e-4
        config.model.d.relu_skips = True
    for optim in (config.optim_g, config.optim_d):
        if config.model.conditional:
            optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
        else:
            optim.lr_schedule = "linear to 0"
    config.log.every_kimg = 32.0
    report_on_cifar(config, every_kimg=320.0)
    return config
