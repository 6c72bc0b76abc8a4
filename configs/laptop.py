"""CIFAR-10 on a laptop: small residual nets, class-conditional, for half an hour of two CPU cores.

    jaxgan train --config=laptop

Cost: 30 minutes of two CPU cores; score: fd_cifar 4.5 and 3.7, two seeds.

    --config=laptop:5min             for this time instead, also 15min, 30min (what laptop alone is) and 60min
    --config=laptop:unconditional    without labels, for 30 minutes

This is no published recipe: benchmarks/README.md has what was tried. It takes SNGAN's residual nets at a fraction of
their width, without spectral norm in D, which goes down to maps of 4x4. They see and paint opponent colours (Ohta et
al. 1980), without which G's fade. The objective is R3GAN's (Huang et al. 2024), a relativistic loss with R1 and R2,
here on a quarter of the batch. D is conditioned by projection and has ADC-GAN's classifier (Hou et al. 2022), by which
G is also asked for images that are clearly of their class, and no clearer. Learning rates are constant and the average
of G grows with the run, so that a longer run only goes on where a shorter one ends.

One run on a JPEG copy of CIFAR-10, seed 0, everything included but for the opening of the data and the half minute of
an empty compilation cache (two cores with AVX-512, 86 to 184 images a second), scored with 10,000 samples; beside it
runs in RGB, with a weight_clear of 0.5 and of 0, and the 10,000 test images:

    thousand images   28    108    232    460    232, 0.5    220, 0    test images
    minutes          4.0   13.2   26.7   50.2    27.7        28.2
    fd_cifar        22.5    6.1    4.5    3.2    3.9         6.5       0.1
    recall_cifar    0.36   0.65   0.70   0.72    0.71        0.74      0.92
    swd             35.6   16.9   18.8   20.0    22.9        22.2      5.5
    msssim         0.150  0.143  0.129  0.138    0.123       0.120     0.090
    colourfulness   26.6   26.5   26.0   26.1    18.8        22.0      31.3

Seed 1 has 3.7, 0.70, 20.8, 0.130 and 25.4 after 220 thousand images and 28.4 minutes, and ends at 3.6, 0.70, 19.1,
0.129 and 25.3 after 30.3, on a slower day. An image costs 0.61 GFLOP, so the 173 a second between pauses are half of
the 215 GFLOP/s that a matrix product reached on those cores. The recipe before these ends at 11.9, a run without labels
at 18.0, and the DCGAN of laptop_dcgan.py at 28.7.
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
        config.class_loss.weight_clear = 1.0
    config.model.g.channels = (128, 64, 32, 32)
    config.model.d.channels = (32, 64, 128, 128)
    config.model.d.halvings = 3
    config.model.d.spectral = False
    config.model.g.opponent = config.model.d.opponent = True
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
    config.eval.metrics = ("fd_cifar", "swd", "msssim", "colourfulness")
    config.eval.num_samples = 5000
    config.checkpoint.best_metric = "eval/fd_cifar"
    return config
