"""CIFAR-10 in minutes of one GPU: the laptop recipe, four times as wide.

jaxgan train --config=speedrun
"""

import jaxgan


def get_config():
    config = jaxgan.config("laptop")
    config.dtype = "bfloat16"
    config.model.g.channels = (512, 256, 128, 128)
    config.model.d.channels = (128, 256, 512, 512)
    config.batch_size = 64
    config.steps_per_dispatch = 8
    config.ema.half_life_kimg = 500.0
    config.train_kimg = 3_000.0
    config.log.every_kimg = 25.6
    for section in (config.sample, config.health, config.checkpoint):
        section.every_kimg = 200.0
    config.eval.every_kimg = 400.0
    return config
