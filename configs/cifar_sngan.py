"""CIFAR-10 with SNGAN's residual nets (Miyato et al. 2018, Miyato & Koyama 2018), by the letter of two repositories.

    python -m jaxgan.main --config=configs/cifar_sngan.py

Class-conditional as StudioGAN: hinge loss, orthogonal weights, Adam 2e-4 (0.5, 0.999), batch 64, 5 D steps for each G
step, 100,000 G steps (32 million real images), real images mirrored. StudioGAN's run took 9 h 23 min with its
evaluations; it does not say on what. Published: FID 9.01, IS 8.83 (StudioGAN, best checkpoint, 50k samples against 50k
training images). Ours: not yet measured.

    python -m jaxgan.main --config=configs/cifar_sngan.py:unconditional

Without labels as mimicry: Glorot weights, Adam 2e-4 (0, 0.9), learning rate linear to 0, not mirrored. Published: FID
16.77 +- 0.04, IS 7.97 (mimicry, the last of 100,000 G steps, 50k samples against 50k training images). Ours: not yet
measured.

Deviations: running statistics of batch norm in use, where StudioGAN measures them anew before it evaluates; without
labels nearest-neighbour upsampling (mimicry's is bilinear).
"""

from jaxgan.settings import default_config, is_conditional


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "configs/cifar_sngan.py")
    config.d_steps = 5
    config.train_kimg = 32_000.0
    config.ema.half_life_kimg = 0.0
    config.data.flip = config.model.conditional
    if config.model.conditional:
        config.model.g_options = "orthogonal_init=True, bn_eps=1e-4"
        config.model.d_options = "orthogonal_init=True, relu_skips=True"
    for optim in (config.optim_g, config.optim_d):
        if config.model.conditional:
            optim.b1, optim.b2, optim.eps = 0.5, 0.999, 1e-6
        else:
            optim.lr_schedule = "linear to 0"
    config.log.every_kimg = 32.0
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 320.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
