"""CIFAR-10 on a laptop: small residual nets, class-conditional, for half an hour of two CPU cores.

    jaxgan train --config=laptop

Cost: 30 minutes of two CPU cores; score: fd_cifar 3.9.

    --config=laptop:5min             for this time instead, also 15min, 30min (what laptop alone is) and 60min
    --config=laptop:unconditional    without labels, for 30 minutes

This is no published recipe: benchmarks/README.md has what was tried. It takes SNGAN's residual nets at a fraction of
their width, without spectral norm in D, which goes down to maps of 4x4. The objective is R3GAN's (Huang et al. 2024), a
relativistic loss with R1 and R2, here on a quarter of the batch. D is conditioned by projection and has ADC-GAN's
classifier (Hou et al. 2022), by which G is also asked for images that are clearly of their class, and no clearer.
Learning rates are constant and the average of G grows with the run, so that a longer run only goes on where a shorter
one ends.

One run of laptop:60min on a JPEG copy of CIFAR-10, seed 0, everything included (two cores with AVX-512, 128 to 182
images a second), scored with 10,000 samples:

    thousand images   28    108    232    460     232, without weight_clear (220 and 240)
    minutes          3.7   13.5   27.7   55.1
    fd_cifar        17.2    5.8    3.9    3.1     6.5, 6.0
    recall_cifar    0.51   0.64   0.71   0.75     0.74, 0.73
    swd             25.6   21.7   22.9   23.0     22.2, 22.4
    msssim         0.138  0.129  0.123  0.130     0.120, 0.115

That clarity costs colour, which none of these scores sees: the mean colours of a class's images vary by 0.029 at 232
thousand (standard deviation of the differences of channels) where those of real images vary by 0.068, and by 0.045
without weight_clear. The recipe before these had an fd_cifar of 11.6 at best and the DCGAN of laptop_dcgan.py reaches
25.0. No second seed and no run without labels has been measured yet.
"""

from jaxgan.core.errors import ConfigError
from jaxgan.settings import default_config

KIMG = {"5min": 28.0, "15min": 108.0, "30min": 232.0, "60min": 460.0}


def get_config(variant="30min"):
    if variant not in (*KIMG, "unconditional"):
        raise ConfigError(f"laptop:{variant}: the variants are {', '.join(KIMG)} and unconditional")
    config = default_config()
    if variant != "unconditional":
        config.model.conditional = True
        config.model.conditioning = "adc"
        config.model.fake_labels = "real"
        config.class_loss.weight_g = 0.5
        config.class_loss.weight_clear = 0.5
    config.model.g.channels = (128, 64, 32, 32)
    config.model.d.channels = (32, 64, 128, 128)
    config.model.d.halvings = 3
    config.model.d.spectral = False
    config.loss = "rpgan"
    for penalty in (config.penalty.r1, config.penalty.r2):
        penalty.weight, penalty.fraction = 0.1, 0.25
    config.batch_size = 16
    config.cpu_devices = 2
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 8e-4
        optim.b2 = 0.99
    config.ema.half_life_kimg = 30.0
    config.ema.rampup = 0.08
    config.train_kimg = KIMG.get(variant, KIMG["30min"])
    config.log.every_kimg = 3.2
    config.sample.every_kimg = 20.0
    config.sample.grid = 10
    config.health.every_kimg = 20.0
    config.checkpoint.every_kimg = 20.0
    config.eval.every_kimg = 40.0
    config.eval.metrics = ("fd_cifar", "swd", "msssim")
    config.eval.num_samples = 5000
    config.checkpoint.best_metric = "eval/fd_cifar"
    return config
