"""CIFAR-10 with R3GAN (Huang et al. 2024), class-conditional, as its authors train it.

    python -m jaxgan.main --config=configs/cifar_r3gan.py

Recipe: relativistic loss with R1 and R2 at every D step, Adam (0, beta2), batch 512, real images mirrored, 250 million
real images, over the first 20 million of which, along a cosine: learning rate 2e-4 to 5e-5, gamma 0.05 to 0.005, beta2
0.9 to 0.99, augmentation p 0 to 0.55, half-life of G's average 0 to 5 million images. About 4 days on 8 L40 GPUs (its
authors; 723 images a second). Published: FID 1.96 (50k samples against 50k training images). Ours: not yet measured.

    --config=configs/cifar_r3gan.py:unconditional    without labels; no score is published

Deviations: none known.
"""

from jaxgan.settings import default_config, is_conditional


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "configs/cifar_r3gan.py")
    config.model.name = "r3gan"
    config.model.z_dim = 64
    config.dtype = "bfloat16"  # but at 4x4
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
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 1024.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
