"""CIFAR-10 with StyleGAN2-ADA (Karras et al. 2020b), class-conditional, as its authors train it.

    jaxgan train --config=cifar_stylegan2_ada

Cost: 9.8 EFLOP; score: FID 2.42, published.

Recipe: the official `cifar`: non-saturating loss, R1 with gamma 0.01 at every 16th D step through the augmentation, no
path length penalty, no style mixing, batch 64, 100 million real images, no flips, EMA of G with a half-life of 500
kimg, and the augmentations "bgc" with a p that keeps the mean sign of D's logits on reals at 0.6. StudioGAN's run over
64 million images took 9 d 20 h on two GPUs including evaluation. Published: FID 2.42, IS 10.14 (the paper, 50k samples
against 50k training images); StudioGAN FID 2.31, IS 10.53. Ours: not yet measured.

    --config=cifar_stylegan2_ada:unconditional    without labels

Deviations: those of cifar_stylegan2.py; p moves at every step, in proportion to the images, instead of at every fourth,
and stays below 1.
"""

import jaxgan
from jaxgan.settings import report_on_cifar


def get_config(variant="conditional"):
    config = jaxgan.config(f"cifar_stylegan2:{variant}")
    config.data.flip = False
    config.augment.name = "ada"
    config.augment.p = 0.0
    config.augment.target = 0.6
    config.train_kimg = 100_000.0
    report_on_cifar(config, every_kimg=1024.0)
    return config
