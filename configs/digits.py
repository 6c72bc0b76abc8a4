"""Handwritten digits in a minute or two: no download, any machine.

    python -m jaxgan.main --config=configs/digits.py

Three of scikit-learn's handwritten digits make one image, as its red, green and blue planes: 1,000 modes, the
classical test for mode collapse. Reports how many of them 26,000 samples contain, and the KL divergence from uniform.
"""

from jaxgan.config import default_config


def get_config():
    config = default_config()
    config.data.name = "stacked_digits"
    config.data.image_size = 16
    config.data.flip = False  # a mirrored digit is none
    config.model.name = "dcgan"
    config.model.z_dim = 64
    config.model.g_channels = (128, 64, 32)
    config.model.d_channels = (32, 64, 128)
    config.loss = "ns"
    config.train_kimg = 320.0
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 5e-4
        optim.b1 = 0.5
        optim.b2 = 0.99
    config.log.every_kimg = 3.2
    config.sample.every_kimg = 32.0
    config.eval.every_kimg = 80.0
    config.eval.metrics = ("modes",)
    config.diagnose.every_kimg = 16.0
    config.checkpoint.every_kimg = 32.0
    config.checkpoint.best_metric = "eval/modes"
    return config
