"""R3GAN (Huang et al. 2024) on FFHQ and ImageNet, as its authors train it; on CIFAR-10: cifar_r3gan.py.

    python -m jaxgan.main --config=configs/r3gan.py:ffhq64 --config.data.dir=DIR --workdir=runs/ffhq64

    ffhq64       64x64, a directory of images; G 22,429,824, D 22,381,440 parameters; batch 256
    ffhq256      256x256, a directory of images; G 23,057,952, D 23,009,568; batch 256
    imagenet32   tfds imagenet_resized/32x32, class-conditional; G 82,914,304, D 86,548,992; batch 4096
    imagenet64   tfds imagenet_resized/64x64, class-conditional; G 103,570,432, D 107,205,120; batch 4096

Recipe: that of cifar_r3gan.py with the widths, schedules and batch sizes of the authors' presets: gamma falls to a
tenth, the learning rate from 2e-4 to 5e-5, over 20 million images (FFHQ) or 200 million (ImageNet). The authors used 8
GPUs for FFHQ, 32 and 64 for ImageNet. Scores: not yet measured, none of these has been trained here.

Deviations: the length, which is not stated for each, is that of CIFAR-10 for FFHQ and four times the schedules' for
ImageNet.
"""

from typing import NamedTuple

from jaxgan.core.errors import ConfigError
from jaxgan.models.r3gan import IMAGENET_WIDTHS
from jaxgan.settings import default_config


class Preset(NamedTuple):
    data: str  # config.data.name
    size: int  # pixels
    gamma: float  # at first
    augment: float  # p, at last
    batch_size: int
    half_life_kimg: float  # of the average, at last
    schedule_kimg: float
    train_kimg: float
    widths: tuple[int, ...] = ()  # of G and of D; (): the architecture's own
    options: str = ""


FFHQ = dict(data="folder", batch_size=256, half_life_kimg=500, schedule_kimg=20_000, train_kimg=250_000.0)
IMAGENET = dict(batch_size=4096, half_life_kimg=50_000, schedule_kimg=200_000, train_kimg=800_000.0)
PRESETS = {
    "ffhq64": Preset(size=64, gamma=2.0, augment=0.3, **FFHQ),
    "ffhq256": Preset(size=256, gamma=150.0, augment=0.3, **FFHQ),
    "imagenet32": Preset(
        "imagenet_resized/32x32", 32, 0.5, 0.5, widths=IMAGENET_WIDTHS[32], options="group_width=32", **IMAGENET
    ),
    "imagenet64": Preset(
        "imagenet_resized/64x64", 64, 1.0, 0.4, widths=IMAGENET_WIDTHS[64], options="group_width=32", **IMAGENET
    ),
}


def get_config(name="ffhq64"):
    if name not in PRESETS:
        raise ConfigError(f"configs/r3gan.py:{name}: the presets are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    end = f"in {preset.schedule_kimg} kimg"
    config = default_config()
    config.data.name = preset.data
    config.data.image_size = preset.size
    config.data.eval_split = "validation"
    config.model.name = "r3gan"
    config.model.z_dim = 64
    config.model.conditional = preset.data != "folder"
    config.model.g_channels = config.model.d_channels = preset.widths
    config.model.g_options = config.model.d_options = preset.options
    config.dtype = "bfloat16"  # in the four largest stages, but not at 4x4
    config.batch_size = preset.batch_size
    config.loss = "rpgan"
    for penalty in (config.penalty.r1, config.penalty.r2):
        penalty.weight = preset.gamma / 2
        penalty.weight_schedule = f"cosine to {preset.gamma / 20} {end}"
    config.augment.name = "r3gan"
    config.augment.p = 0.0
    config.augment.p_schedule = f"cosine to {preset.augment} {end}"
    for optim in (config.optim_g, config.optim_d):
        optim.lr = 2e-4
        optim.lr_schedule = f"cosine to 5e-5 {end}"
        optim.b2_schedule = f"cosine to 0.99 {end}"
    config.ema.half_life_kimg = 0.0
    config.ema.half_life_kimg_schedule = f"cosine to {preset.half_life_kimg} {end}"
    config.ema.rampup = 0.0
    config.train_kimg = preset.train_kimg
    config.log.every_kimg = 51.2
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 1024.0
    return config
