"""CIFAR-10 on a laptop: small residual nets, class-conditional, for half an hour of two CPU cores.

    jaxgan train --config=laptop

Cost: 30 minutes of two CPU cores; score: fd_cifar 6.0 to 6.5.

    --config=laptop:5min             for this time instead, also 15min, 30min (what laptop alone is) and 60min
    --config=laptop:unconditional    without labels, for 30 minutes

This is no published recipe: benchmarks/README.md has what was tried. It takes SNGAN's residual nets at a fraction of
their width, without spectral norm in D, which goes down to maps of 4x4. The objective is R3GAN's (Huang et al. 2024), a
relativistic loss with R1 and R2, here on a quarter of the batch. D is conditioned by projection and has ADC-GAN's
classifier (Hou et al. 2022). Learning rates are constant and the average of G grows with the run, so that a longer run
only goes on where a shorter one ends.

One run on a JPEG copy of CIFAR-10 had these scores of 5,000 samples, everything included (two cores with AVX-512, on
which it made 113 to 179 images a second):

    minutes           6.6   11.5   16.4   21.2   25.9   30.8
    thousand images    40     80    120    160    200    240
    fd_cifar         15.1   10.6    8.7    7.5    6.1    6.1
    swd              26.5   22.0   22.6   21.4   21.6   23.1

Of 10,000 samples the checkpoint at 220 thousand images, after 28 minutes, had an fd_cifar of 6.5, and that at 240
thousand one of 6.0, a recall_cifar of 0.73, an swd of 22.4 and an msssim of 0.115. Another run, whose average was
shorter, went on to 340 thousand images without getting better: 6.2, 0.75, 20.3, 0.112. The recipe before it had an
fd_cifar of 11.6 at best and, of 2,000 samples, 0.66, 23.8 and 0.11; the DCGAN of laptop_dcgan.py reaches 25.0. The
thousand images of the variants are reckoned from the minutes of this run; no other time, no second seed and no run
without labels has been measured yet.
"""

from jaxgan.core.errors import ConfigError
from jaxgan.settings import default_config

KIMG = {"5min": 28.0, "15min": 108.0, "30min": 230.0, "60min": 460.0}


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
