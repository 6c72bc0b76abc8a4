"""CIFAR-10 with DCGAN (Radford et al. 2016), unconditional, as StudioGAN trains it.

    python -m jaxgan.main --config=configs/cifar_dcgan.py

Recipe: non-saturating loss, batch norm in both nets, Adam 2e-4 (0.5, 0.999), batch 64, 2 D steps for each G step,
200,000 G steps (25.6 million real images), real images mirrored. StudioGAN's run took 5 h 09 min with its evaluations;
it does not say on what. Published: FID 48.29, IS 6.11 (StudioGAN, best checkpoint, 50k samples against 50k training
images). Ours: not yet measured.

Deviations: running statistics of batch norm in use, where StudioGAN measures them anew before it evaluates.
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.model.name = "dcgan"
    config.loss = "ns"
    config.d_steps = 2
    config.train_kimg = 25_600.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 0.0
    config.log.every_kimg = 12.8
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 256.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
