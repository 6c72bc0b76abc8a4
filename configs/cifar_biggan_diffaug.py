"""CIFAR-10 with BigGAN and DiffAugment (Zhao et al. 2020), class-conditional, as StudioGAN trains it.

    python -m jaxgan.main --config=configs/cifar_biggan_diffaug.py

Recipe: that of cifar_biggan.py for 200,000 G steps (64 million real images), with colour, translation and cutout of all
that D sees. Its authors say of their own run "around 1 day on 2 GPUs"; at the speed of StudioGAN's BigGAN (694 real
images a second, hardware not said) it is 26 hours without the augmentation. Published: FID 3.35, IS 10.03 (StudioGAN,
best checkpoint, 50k samples against 50k training images); FID 8.70, IS 9.16 by its authors (10k samples). Ours: not yet
measured.

Deviations: the average begins with a half-life of 5% of the images so far (StudioGAN: the full one, after 1,000 steps
of none); running statistics of batch norm in use, where StudioGAN measures them anew before it evaluates.
"""

from jaxgan.settings import default_config


def get_config():
    config = default_config()
    config.model.name = "biggan"
    config.model.z_dim = 80
    config.model.conditional = True
    config.augment.name = "diffaugment"
    config.d_steps = 5
    config.train_kimg = 64_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 2218.0  # 0.9999 a G step of 320 real images
    config.log.every_kimg = 32.0
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 640.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
