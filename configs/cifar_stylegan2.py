"""CIFAR-10 with StyleGAN2 (Karras et al. 2020), class-conditional, as StudioGAN trains it, without augmentation.

    jaxgan train --config=cifar_stylegan2

Cost: 1.25 EFLOP; score: FID 3.78, published.

Recipe: non-saturating loss, R1 with gamma 0.01 at every 16th D step, no path length penalty, no style mixing, batch 64,
one D step for each G step, 200,000 steps (12.8 million real images), EMA of G with a half-life of 500 kimg, random
horizontal flips. StudioGAN's run took 19 h 23 min on one GPU including evaluation. Published: FID 3.78, IS 10.17
(StudioGAN, best checkpoint, 50k samples against 50k training images). Ours: not yet measured.

    --config=cifar_stylegan2:unconditional    without labels; published: FID 11.07, IS 9.18
                                              (data-efficient-gans' recipe, 10k samples)

Deviations: D steps before G, not after it; R1 is added to the loss of every 16th D step instead of having a step of its
own; bfloat16 where the source has float16.
"""

from jaxgan.settings import default_config, is_conditional, report_on_cifar


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "cifar_stylegan2")
    config.model.name = "stylegan2"
    config.model.z_dim = 512
    config.dtype = "bfloat16"  # except at 4x4
    config.loss = "ns"
    config.penalty.r1.weight = 0.005  # gamma / 2
    config.penalty.r1.interval = 16
    config.train_kimg = 12_800.0
    # 0.0025 and 0.99, corrected as in the source for its separate steps of the lazy penalties.
    config.optim_g.lr, config.optim_g.b2 = 0.0025 * 4 / 5, 0.99 ** (4 / 5)
    config.optim_d.lr, config.optim_d.b2 = 0.0025 * 16 / 17, 0.99 ** (16 / 17)
    config.ema.half_life_kimg = 500.0
    config.log.every_kimg = 102.4
    report_on_cifar(config, every_kimg=512.0)
    return config
