"""CIFAR-10 with R3GAN2, the public successor to R3GAN by its authors (2026), class-conditional.

    python -m jaxgan.main --config=configs/cifar_r3gan2.py

Recipe: that of cifar_r3gan.py on magnitude-preserving nets whose weights are normalised after each step, with a
learning rate of 1e-2, linear from 0 over the first million images and falling with their root from 512 thousand on
(EDM2), the same augmentation for a real and the fake beside it, and power-function averages of G. No length, hardware
or score is published; the length here is R3GAN's. Ours: not yet measured.

    --config=configs/cifar_r3gan2.py:unconditional    without labels

Deviations: a fake gets the noise in the holes of cutout, too, that the real beside it gets.

G's averages have the relative widths 0.05, which the authors evaluate, 0.01 and 0.1; any other is made of them after
the fact: jaxgan.load(RUN, sigma_rel=0.03).
"""

from jaxgan.settings import default_config, is_conditional


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "configs/cifar_r3gan2.py")
    config.model.name = "r3gan2"
    config.model.z_dim = 64
    config.dtype = "bfloat16"  # but in the heads
    config.batch_size = 512
    config.loss = "rpgan"
    for penalty in (config.penalty.r1, config.penalty.r2):
        penalty.weight = 0.025  # gamma / 2
        penalty.weight_schedule = "cosine to 0.0025 in 20000 kimg"
    config.augment.name = "r3gan2"
    config.augment.p = 0.0
    config.augment.p_schedule = "cosine to 0.55 in 20000 kimg"
    config.augment.paired = True
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 1e-2
        optim.lr_schedule = "warmup 1000 kimg, inverse sqrt from 512 kimg"
        optim.b2_schedule = "cosine to 0.99 in 20000 kimg"
    config.ema.sigma_rel = 0.05
    config.ema.posthoc = (0.01, 0.1)
    config.checkpoint.keep_every_kimg = 8192.0  # for averages of other widths
    config.train_kimg = 250_000.0
    config.log.every_kimg = 51.2
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 1024.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
