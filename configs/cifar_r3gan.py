"""CIFAR-10 with R3GAN (Huang et al. 2024), class-conditional, as its authors train it.

    jaxgan train --config=cifar_r3gan

Cost: 67 EFLOP; score: FID 1.96, published.

Recipe: relativistic loss with R1 and R2 at every D step, Adam (0, beta2), batch 512, random horizontal flips, 250
million real images. Five values follow a cosine over the first 20 million images: learning rate 2e-4 to 5e-5, gamma
0.05 to 0.005, beta2 0.9 to 0.99, augmentation p 0 to 0.55, half-life of G's EMA 0 to 5 million images. The authors
needed about 4 days on 8 L40 GPUs (723 images a second). Published: FID 1.96 (50k samples against 50k training images).
Ours: not yet measured.

    --config=cifar_r3gan:unconditional    without labels; no score is published

Deviations: none known.
"""

from jaxgan.settings import default_config, is_conditional, report_on_cifar


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "cifar_r3gan")
    config.model.name = "r3gan"
    config.model.z_dim = 64
    config.model.fake_labels = "real"
    config.dtype = "bfloat16"  # except at 4x4
    config.batch_size = 512
    config.loss = "rpgan"
    for penalty in (config.penalty.r1, config.penalty.r2):
        penalty.weight = 0.025  # gamma / 2
        penalty.weight_schedule = "cosine to 0.0025 in 20000 kimg"
    config.augment.name = "r3gan"
    config.augment.p = 0.0
    config.augment.p_schedule = "cosine to 0.55 in 20000 kimg"
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 2e-4
        optim.lr_schedule = "cosine to 5e-5 in 20000 kimg"
        optim.b2_schedule = "cosine to 0.99 in 20000 kimg"
    config.ema.half_life_kimg = 0.0
    config.ema.half_life_kimg_schedule = "cosine to 5000 in 20000 kimg"
    config.ema.rampup = 0.0
    config.train_kimg = 250_000.0
    config.log.every_kimg = 51.2
    report_on_cifar(config, every_kimg=1024.0)
    return config
