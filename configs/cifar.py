"""CIFAR-10 with SNGAN's residual nets, class-conditional (cGAN-PD): the config to start with on one accelerator.

    python -m jaxgan.main --config=configs/cifar.py

Recipe: Miyato & Koyama 2018 in the form of StudioGAN and mimicry: hinge loss, spectral norm in D, class-conditional
batch norm in G and projection in D, Adam 2e-4 (0, 0.9), batch 64, 5 D steps for each G step, learning rate linear to 0
over 100,000 G steps (32 million real images). Published: FID 10.84 +- 0.03, IS 8.25 (mimicry's cGAN-PD, 50k samples
against 50k training images); StudioGAN's variant FID 9.01. Ours: not yet measured.

Deviations: an EMA of G with a half-life of 10 kimg (the sources have none), nearest-neighbour upsampling (as the
original and StudioGAN; mimicry's is bilinear), real images mirrored (as StudioGAN), bfloat16 compute.

    --config=configs/cifar.py:unconditional    without labels; published: FID 16.77 +- 0.04, IS 7.97 (mimicry)
"""

from jaxgan.config import default_config, is_conditional


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "configs/cifar.py")
    config.dtype = "bfloat16"
    config.d_steps = 5
    config.train_kimg = 32_000.0
    for optim in (config.optim_g, config.optim_d):
        optim.lr_schedule = "linear to 0"
    config.log.every_kimg = 32.0
    config.sample.every_kimg = 320.0
    config.diagnose.every_kimg = 320.0
    config.checkpoint.every_kimg = 320.0
    config.eval.every_kimg = 320.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
