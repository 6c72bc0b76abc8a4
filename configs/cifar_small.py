"""CIFAR-10 on a laptop: a small class-conditional DCGAN for half an hour of two CPU cores.

    python -m jaxgan.main --config=configs/cifar_small.py

Not a published recipe and not a benchmark: the smallest net of this toolkit that shows real images being learnt.
"""

from jaxgan.config import default_config


def get_config():
    config = default_config()
    config.model.name = "dcgan"
    config.model.conditional = True
    config.model.g_channels = (256, 128, 64, 32)
    config.model.d_channels = (32, 64, 128, 256)
    config.loss = "ns"
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 2e-4
        optim.b1 = 0.5
        optim.b2 = 0.999
    config.train_kimg = 500.0
    config.log.every_kimg = 3.2
    config.sample.every_kimg = 32.0
    config.sample.grid = 10
    config.diagnose.every_kimg = 32.0
    config.checkpoint.every_kimg = 32.0
    return config
