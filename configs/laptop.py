"""draft"""

from jaxgan.config import default_config


def get_config():
    config = default_config()
    config.model.name = "sngan_patched"
    config.model.conditional = True
    config.model.g_channels = (256, 128, 64)
    config.model.d_channels = (64, 128, 128)
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
