"""Coloured numerals in three minutes on a laptop: no download, any machine.

jaxgan train --config=numerals
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.data.name = "numerals"
    config.data.flip = False  # a flipped numeral is none
    config.model.name = "dcgan_strided"
    config.model.conditional = True
    config.model.fake_labels = "real"
    config.model.z_dim = 64
    config.model.g.channels = (128, 64, 32)
    config.model.d.channels = (32, 64, 128)
    config.batch_size = 16
    config.loss = "rpgan"
    config.penalty.r1.weight = 1.0
    config.penalty.r1.interval = 4
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 1e-3
        optim.b2 = 0.99
        optim.lr_schedule = "linear to 0"
    config.ema.half_life_kimg = 1.0
    config.train_kimg = 48.0
    config.log.every_kimg = 1.6
    config.sample.every_kimg = 6.4
    config.sample.grid = 10
    config.eval.every_kimg = 16.0
    config.eval.metrics = ("fd_numerals", "accuracy_numerals")
    config.eval.num_samples = 2000
    config.eval.num_reals = 10_000
    config.health.every_kimg = 16.0
    config.checkpoint.every_kimg = 16.0
    config.checkpoint.best_metric = "eval/fd_numerals"
    return config
