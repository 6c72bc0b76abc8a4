"""CIFAR-10 with BigGAN and DiffAugment (Zhao et al. 2020), class-conditional: the one to start with on an accelerator.

    python -m jaxgan.main --config=configs/cifar.py

Why this one: of the recipes here those with a better score compute eleven times as much and more. Operations are those
of our own steps (`jaxgan/ops/flops.py`), scores are as published (50k samples against 50k training images):

    SNGAN 0.19 EFLOP, FID 9.01 | BigGAN 0.43, 4.16 | this 0.86, 3.35 | StyleGAN2 1.27, 3.78 | its ADA 9.9, 2.42 |
    R3GAN 77, 1.96

Recipe: that of cifar_biggan_diffaug.py, in bfloat16: hinge loss, spectral norm in both nets, self-attention, a class
embedding shared by all batch norms, Adam 2e-4 (0.5, 0.999), batch 64, 5 D steps for each G step, 200,000 G steps (64
million real images); colour, translation and cutout of all that D sees. StudioGAN's took 26 hours, its BigGAN's speed
(694 real images a second, hardware not said) assumed; a TPU v5e at a third of its peak would take 4. Published: FID
3.35, IS 10.03 (StudioGAN). Ours: not yet measured.

    --config=configs/cifar.py:unconditional    without labels; no score is published

Deviations: as in cifar_biggan_diffaug.py, and bfloat16.
"""

from jaxgan.settings import default_config, is_conditional


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "configs/cifar.py")
    config.model.name = "biggan"
    config.model.z_dim = 80
    config.dtype = "bfloat16"
    config.augment.name = "diffaugment"
    config.d_steps = 5
    config.train_kimg = 64_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
    config.ema.half_life_kimg = 2218.0  # 0.9999 a G step of 320 real images
    config.log.every_kimg = 6.4
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 640.0
    config.sample.grid = 10
    config.sample.every_kimg = 64.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
