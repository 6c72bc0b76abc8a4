"""CIFAR-10 with a plain DCGAN (Radford et al. 2016) for half an hour of two CPU cores: the baseline of laptop.py.

    jaxgan train --config=laptop_dcgan

Cost: 30 minutes of two CPU cores; score: fd_cifar 28.7.

Strided convolutions of 64, 128 and 256 channels, batch norm in both nets, unconditional, non-saturating loss, Adam 2e-4
(0.5, 0.999), batch 128, EMA of G. On a JPEG copy of CIFAR-10 it reached an fd_cifar of 28.7 after 579 thousand images
in 29.3 minutes, seed 0, on a machine that did nothing else (10,000 samples against 50,000 training images). A run of an
earlier revision, which begins alike, had 24.7 after 510 thousand, where this one has 30.0.
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.model.name = "dcgan_strided"
    config.loss = "ns"
    config.batch_size = 128
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2 = 0.5, 0.999
    config.train_kimg = 579.0
    config.log.every_kimg = 6.4
    config.sample.every_kimg = 64.0
    config.sample.grid = 10
    config.health.every_kimg = 64.0
    config.checkpoint.every_kimg = 64.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.eval.num_samples = 5000
    return config
