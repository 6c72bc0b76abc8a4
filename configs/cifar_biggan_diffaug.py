"""CIFAR-10 with BigGAN and DiffAugment (Zhao et al. 2020), class-conditional, as StudioGAN trains it.

    jaxgan train --config=cifar_biggan_diffaug

Cost: 0.86 EFLOP; score: FID 3.35, published.

Recipe: cifar_biggan.py for 200,000 G steps (64 million real images), with colour, translation and cutout of all that D
sees. The authors of DiffAugment report "around 1 day on 2 GPUs" for their own run; at the speed of StudioGAN's BigGAN
(694 real images a second, hardware not stated) it takes 26 hours without the augmentation. Published: FID 3.35, IS
10.03 (StudioGAN, best checkpoint, 50k samples against 50k training images); FID 8.70, IS 9.16 by DiffAugment's authors
(10k samples). Ours: not yet measured.

Deviations: those of cifar_biggan.py.
"""

import jaxgan
from jaxgan.settings import report_on_cifar


def get_config():
    config = jaxgan.config("cifar_biggan")
    config.augment.name = "diffaugment"
    config.train_kimg = 64_000.0
    report_on_cifar(config, every_kimg=640.0)
    return config
