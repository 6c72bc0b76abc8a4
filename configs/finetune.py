"""A few hundred pictures of your own, of 256 pixels: StyleGAN2 with ADA, from other weights (Karras et al. 2020b).

    jaxgan train --config=finetune

It takes a directory of pictures, --config.data.dir=DIR, and the weights of another run, --config.init_from=RUN, whose
nets have the same settings. They are those of the official `paper256`, which NVIDIA trained on FFHQ
(ffhq-res256-mirror-paper256-noaug.pkl), as `jaxgan convert` makes a run of it.

Recipe: the official `auto` for 256 pixels and one GPU: batch 16, learning rates of 0.0025, R1 with gamma 0.82 at every
16th D step, path length penalty, style mixing, EMA of G with a half-life of 5 kimg and no ramp, ADA with a target of
0.6. The first 4 layers of D stay as they are (FreezeD, Mo et al. 2020). ADA's authors fine-tune on a thousand images
for up to 5,000 kimg; with a few hundred, the best is often among the first thousand. Ours: not yet measured.

    --config=finetune:r3gan    R3GAN at 64 pixels with the nets of r3gan:ffhq64, for which the learning rate, gamma and
                               the EMA are those of the end of its run, and the augmentation stronger

Deviations: those of cifar_stylegan2_ada.py; the speed of ADA's p is that of training from nothing, a fifth of the
official one for fine-tuning.
"""

import jaxgan
from jaxgan.core.errors import ConfigError
from jaxgan.settings import report_on_images


def get_config(variant="stylegan2"):
    if variant not in ("stylegan2", "r3gan"):
        raise ConfigError(f"finetune:{variant}: the variants are stylegan2 and r3gan")
    config = _stylegan2() if variant == "stylegan2" else _r3gan()
    config.data.name = "images"
    config.data.held_out = 0.0  # of so few images none can be spared
    config.data.flip = True
    config.model.conditional = False
    config.init_from = "runs/source"
    config.train_kimg = 1000.0
    report_on_images(config, every_kimg=20.48)
    return config


def _stylegan2():
    config = jaxgan.config("images:256")
    config.model.g.mapping_layers = 8
    config.ema.rampup = 0.0
    config.freeze.d_layers = 4
    return config


def _r3gan():
    config = jaxgan.config("r3gan:ffhq64")
    config.batch_size = 64
    config.penalty.r1.weight = config.penalty.r2.weight = 0.1
    config.augment.p = 0.55
    for optim in (config.optim_g, config.optim_d):
        optim.lr, optim.b2 = 5e-5, 0.99
        optim.lr_schedule = optim.b2_schedule = "constant"
    for section in (config.penalty.r1, config.penalty.r2):
        section.weight_schedule = "constant"
    config.augment.p_schedule = "constant"
    config.ema.half_life_kimg, config.ema.half_life_kimg_schedule = 20.0, "constant"
    config.freeze.d_layers = 3
    return config
