"""CIFAR-10 with SAGAN (Zhang et al. 2019), class-conditional, as StudioGAN trains it.

    python -m jaxgan.main --config=configs/cifar_sagan.py

Recipe: SNGAN's nets with self-attention at 16x16 and spectral norm in both, hinge loss, Adam 2e-4 (0.5, 0.999), batch
64, 5 D steps for each G step, 100,000 G steps (32 million real images), real images mirrored. StudioGAN's run took 9 h
20 min with its evaluations; it does not say on what. Published: FID 10.35, IS 8.64 (StudioGAN, best checkpoint, 50k
samples against 50k training images). Ours: not yet measured.

Deviations: running statistics of batch norm in use, where StudioGAN measures them anew before it evaluates.
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.model.name = "sagan"
    config.model.conditional = True
    config.d_steps = 5
    config.train_kimg = 32_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 0.0
    config.log.every_kimg = 32.0
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 320.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
