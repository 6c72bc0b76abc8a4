"""Handwritten digits in four minutes on a laptop: no download, any machine.

    jaxgan train --config=digits

Cost: 4 minutes of two CPU cores; score: 1,000 of 1,000 modes, KL 0.046.

Three of scikit-learn's handwritten digits make one image, as its red, green and blue planes: 1,000 modes, the classical
test for mode collapse. The run reports how many of them 26,000 samples contain, and the KL divergence from uniform (for
real images: 1,000 modes and a KL of 0.019, which is due to counting alone). Grids show the three planes side by side.

The objective is R3GAN's (Huang et al. 2024), a relativistic loss with a zero-centred gradient penalty, on the smallest
nets.
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.data.name = "stacked_digits"
    config.data.image_size = 8  # as they were scanned
    config.data.flip = False  # a flipped digit is no digit
    config.model.name = "mlp"
    config.model.z_dim = 64
    config.model.fake_labels = "real"
    config.model.g.channels = (256, 512)
    config.loss = "rpgan"
    config.penalty.r1.weight = 0.1
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 1e-3
        optim.b2 = 0.99
        optim.lr_schedule = "cosine to 0"
    config.train_kimg = 900.0
    config.steps_per_dispatch = 10
    config.log.every_kimg = 6.4
    config.sample.every_kimg = 128.0
    config.sample.grid = 6
    config.eval.every_kimg = 256.0
    config.eval.metrics = ("modes",)
    config.eval.num_samples = 26_000  # the convention for the 1,000 modes (Metz et al. 2017)
    config.health.every_kimg = 128.0
    config.checkpoint.every_kimg = 128.0
    config.checkpoint.best_metric = "eval/modes"
    return config
