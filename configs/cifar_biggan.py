"""CIFAR-10 with BigGAN (Brock et al. 2019), class-conditional, as StudioGAN trains it.

    python -m jaxgan.main --config=configs/cifar_biggan.py

Recipe: hinge loss, spectral norm and self-attention at 16x16 in both nets, Adam 2e-4 (0.5, 0.999), batch 64, 5 D steps
for each G step, 100,000 G steps (32 million real images), average of G by 0.9999 a step, real images mirrored.
StudioGAN's run took 12 h 48 min with its evaluations; it does not say on what. Published: FID 4.16, IS 9.96 (StudioGAN,
best checkpoint, 50k samples against 50k training images). Ours: not yet measured.

Deviations: the average begins with a half-life of 5% of the images so far (StudioGAN: the full one, after 1,000 steps
of none); running statistics of batch norm in use, where StudioGAN measures them anew before it evaluates.

With consistency regularisation (Zhang et al. 2020), published FID 3.16, IS 10.09 (StudioGAN's CRGAN):

    --config.penalty.cr.weight=10
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.model.name = "biggan"
    config.model.z_dim = 80
    config.model.conditional = True
    config.d_steps = 5
    config.train_kimg = 32_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 2218.0  # 0.9999 a G step of 320 real images
    config.log.every_kimg = 32.0
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 320.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
