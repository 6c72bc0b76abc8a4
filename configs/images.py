"""A thousand pictures of your own or more, of 32 to 256 pixels: StyleGAN2 with ADA (Karras et al. 2020b).

    jaxgan train --config=images

It takes a directory, a zip or tars of pictures, --config.data.dir=DIR; with one sub-directory a class, add
--config.model.conditional=True. Two pictures in a hundred are held out. The run scores itself by swd, which needs no
network, and keeps the best checkpoint. A batch that does not fit into the memory of the device is taken in parts.

    --config=images:128    at 128 pixels; also images:32, images:64 (what images alone is) and images:256

Recipe: the official `auto` for one GPU: batch 32 (16 at 256 pixels), learning rates of 0.0025, R1 with a gamma of
0.0002 pixels^2 / batch at every 16th D step, path length penalty, style mixing, EMA of G with a half-life of 10 kimg (5
at 256 pixels), two mapping layers, ADA with a target of 0.6, 25 million images. Ours: not yet measured.

Deviations: those of cifar_stylegan2_ada.py, and random flips, which are an option there (--mirror).
"""

import jaxgan
from jaxgan.core.errors import ConfigError
from jaxgan.settings import report_on_images

PIXELS = ("32", "64", "128", "256")


def get_config(variant="64"):
    if variant not in PIXELS:
        raise ConfigError(f"images:{variant}: the variants are {', '.join(PIXELS)}")
    size = int(variant)
    config = jaxgan.config("cifar_stylegan2_ada:unconditional")
    config.data.name = "images"
    config.data.image_size = size
    config.data.flip = True
    config.model.g.style_mixing = 0.9
    config.model.g.channel_base = config.model.d.channel_base = 16_384
    config.model.d.architecture = "resnet"
    config.model.d.group_size = 4
    config.batch_size = 32 if size < 256 else 16
    config.accumulate = 0  # as few parts as fit into the memory
    config.penalty.r1.weight = 0.0002 * size**2 / config.batch_size / 2
    config.penalty.path.weight, config.penalty.path.interval = 2.0, 4
    config.ema.half_life_kimg = config.batch_size * 10 / 32
    config.train_kimg = 25_000.0
    report_on_images(config, every_kimg=102.4)
    return config
