"""CIFAR-10 with R3GAN2, the public successor to R3GAN by its authors (2026), class-conditional.

    jaxgan train --config=cifar_r3gan2

Recipe: cifar_r3gan.py on magnitude-preserving nets whose weights are normalised after each step. The learning rate of
1e-2 rises linearly from 0 over the first million images and falls with the inverse root of their number from 512
thousand on (EDM2); a real and the fake beside it are augmented alike; the EMAs of G are power functions. No length,
hardware or score is published; the length here is R3GAN's. Ours: not yet measured.

    --config=cifar_r3gan2:unconditional    without labels

Deviations: the noise that fills the holes of cutout is also the same for a real and the fake beside it.

The stored EMAs have the relative standard deviations 0.05, which the authors evaluate, 0.01 and 0.1; others can be
reconstructed after training: jaxgan.load(RUN, sigma_rel=0.03).
"""

import jaxgan


def get_config(variant="conditional"):
    config = jaxgan.config(f"cifar_r3gan:{variant}")
    config.model.name = "r3gan2"
    config.dtype = "bfloat16"  # except in the heads
    config.augment.name = "r3gan2"
    config.augment.shared_draws = True
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 1e-2
        optim.lr_schedule = "warmup 1000 kimg, inverse sqrt from 512 kimg"
    config.ema.half_life_kimg_schedule = "constant"
    config.ema.sigma_rel = 0.05
    config.ema.posthoc = (0.01, 0.1)
    config.checkpoint.keep_every_kimg = 8192.0  # for EMAs of other standard deviations
    return config
