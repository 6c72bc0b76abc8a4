"""CIFAR-10 on a laptop: SNGAN's residual nets at a fraction of their width, for half an hour of two CPU cores.

    python -m jaxgan.main --config=configs/cifar_small.py

Class-conditional, hinge loss, one D step for each G step at twice G's learning rate (Heusel et al. 2017). Not a
published recipe: it is here to watch real images being learnt without an accelerator. Reached, on a JPEG copy of
CIFAR-10: fd_cifar 19.2 (5,000 samples against 50,000 training images) after 27 minutes, evaluations included.
"""

from jaxgan.config import default_config


def get_config():
    config = default_config()
    config.model.conditional = True
    config.model.g_channels = (128, 64, 32, 32)
    config.model.d_channels = (32, 64, 64, 64)
    config.optim_g.lr = 2e-4
    config.optim_d.lr = 4e-4
    config.train_kimg = 240.0
    config.log.every_kimg = 3.2
    config.sample.every_kimg = 32.0
    config.sample.grid = 10
    config.diagnose.every_kimg = 32.0
    config.checkpoint.every_kimg = 32.0
    config.eval.every_kimg = 80.0
    config.eval.metrics = ("fd_cifar", "accuracy_cifar")
    config.eval.num_samples = 5000
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
