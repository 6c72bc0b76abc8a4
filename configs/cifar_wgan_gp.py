"""CIFAR-10 with WGAN-GP (Gulrajani et al. 2017) on SNGAN's residual nets, unconditional, as mimicry trains it.

    python -m jaxgan.main --config=configs/cifar_wgan_gp.py

Recipe: Wasserstein loss, gradient penalty of weight 10 at every D step, no normalisation in D, Adam 2e-4 (0, 0.9),
batch 64, 5 D steps for each G step, learning rate linear to 0 over 100,000 G steps (32 million real images).
StudioGAN's WGAN-GP, of nearly the same size, took 10 h 49 min with its evaluations; it does not say on what. Published:
FID 22.29 +- 0.06, IS 7.33 +- 0.02 (mimicry, 50k samples against 50k training images). Ours: not yet measured.

Deviations: nearest-neighbour upsampling (mimicry's is bilinear).
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.model.d_options = "spectral=False"
    config.loss = "wgan"
    config.penalty.gp.weight = 10.0
    config.data.flip = False
    config.d_steps = 5
    config.train_kimg = 32_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.lr_schedule = "linear to 0"
    config.ema.half_life_kimg = 0.0
    config.log.every_kimg = 32.0
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 320.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
