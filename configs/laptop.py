"""CIFAR-10 on a laptop: SNGAN's residual nets at a fraction of their width, for half an hour of two CPU cores.

    jaxgan train --config=laptop

Cost: 30 minutes of two CPU cores; score: fd_cifar 11.6.

Class-conditional, hinge loss, one D step for each G step. This is no published recipe: it was tuned by fd_cifar of
5,000 samples against 50,000 training images, on a JPEG copy of CIFAR-10. It reached 11.6 after 112 thousand images,
half of the run, and 13.0 at its end, after 29 minutes on two cores with everything included; the checkpoint with the
best evaluation is kept (--step=best). The DCGAN of laptop_dcgan.py reaches 25.0 in the same time.

Each alternative ran on one core for 7 minutes (the first two 9), so that what counts is what is learnt in that time:

    what                                                thousand images   fd_cifar
    batch 64, learning rates of G and D 2e-4, 4e-4                   47       51.4
    the same on patches of 2x2 pixels, twice as wide                 52      111
    batch 32                                                         36       40.8
    batch 16                                                         35       30.7
    batch 16, D on patches of 2x2 pixels, twice as wide              32       31.4
    batch 16, both 4e-4                                              37       24.2
    batch 16, both 4e-4, multi-hinge instead of projection           37       21.8
    batch 16, both 8e-4: this config without its schedule            39       16.7
    batch 16, both 8e-4, multi-hinge                                 35       19.0
    batch 16, both 1.6e-3                                            36       43.4
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.model.conditional = True
    config.model.fake_labels = "real"
    config.model.g.channels = (128, 64, 32, 32)
    config.model.d.channels = (32, 64, 64, 64)
    config.batch_size = 16
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 8e-4
        optim.lr_schedule = "linear to 0"
    config.train_kimg = 224.0
    config.log.every_kimg = 3.2
    config.sample.every_kimg = 32.0
    config.sample.grid = 10
    config.health.every_kimg = 32.0
    config.checkpoint.every_kimg = 32.0
    config.eval.every_kimg = 56.0
    config.eval.metrics = ("fd_cifar", "accuracy_cifar")
    config.eval.num_samples = 5000
    config.checkpoint.best_metric = "eval/fd_cifar"
    return config
