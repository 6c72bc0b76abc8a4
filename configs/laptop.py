"""CIFAR-10 on a laptop: SNGAN's residual nets at a fraction of their width, for half an hour of two CPU cores.

python -m jaxgan.main --config=configs/laptop.py
"""

from jaxgan.config import default_config


def get_config():
    config = default_config()
    config.model.conditional = True
    config.model.g_channels = (128, 64, 32, 32)
    config.model.d_channels = (32, 64, 64, 64)
    config.batch_size = 16
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 8e-4
        optim.lr_schedule = "linear to 0"
    config.train_kimg = 224.0
    config.log.every_kimg = 3.2
    config.sample.every_kimg = 32.0
    config.sample.grid = 10
    config.diagnose.every_kimg = 32.0
    config.checkpoint.every_kimg = 32.0
    config.eval.every_kimg = 112.0
    config.eval.metrics = ("fd_cifar", "accuracy_cifar")
    config.eval.num_samples = 5000
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
