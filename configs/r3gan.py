"""R3GAN (Huang et al. 2024) on FFHQ and ImageNet, as its authors train it; on CIFAR-10: cifar_r3gan.py.

    jaxgan train --config=r3gan:ffhq64 --config.data.dir=DIR --workdir=runs/ffhq64

    ffhq64       64x64, a directory of images; G 22,429,824, D 22,381,440 parameters; batch 256
    ffhq256      256x256, a directory of images; G 23,057,952, D 23,009,568; batch 256
    imagenet32   tfds imagenet_resized/32x32, class-conditional; G 82,914,304, D 86,548,992; batch 4096
    imagenet64   tfds imagenet_resized/64x64, class-conditional; G 103,570,432, D 107,205,120; batch 4096

Recipe: cifar_r3gan.py with the widths, schedules and batch sizes of the authors' presets: gamma falls to a tenth and
the learning rate from 2e-4 to 5e-5 over 20 million images (FFHQ) or 200 million (ImageNet). The authors used 8 GPUs for
FFHQ, 32 and 64 for ImageNet. None of these has been trained here, so there are no scores.

Deviations: the authors do not state every length; FFHQ's here is that of CIFAR-10, ImageNet's four times that of its
schedules.
"""

from typing import NamedTuple

import jaxgan
from jaxgan.core.errors import ConfigError
from jaxgan.models.r3gan import IMAGENET_WIDTHS


class Preset(NamedTuple):
    data: str  # config.data.name
    size: int  # pixels
    gamma: float  # at the start; it falls to a tenth
    augment: float  # p at the end
    batch_size: int
    half_life_kimg: float  # of the EMA at the end
    schedule_kimg: float
    train_kimg: float
    widths: tuple[int, ...] = ()  # of G and of D; (): the architecture's own
    group_width: int | None = None


FFHQ = dict(data="images", batch_size=256, half_life_kimg=500, schedule_kimg=20_000, train_kimg=250_000.0)
IMAGENET = dict(
    batch_size=4096, half_life_kimg=50_000, schedule_kimg=200_000, train_kimg=800_000.0, group_width=32
)  # fmt: skip
PRESETS = {
    "ffhq64": Preset(size=64, gamma=2.0, augment=0.3, **FFHQ),
    "ffhq256": Preset(size=256, gamma=150.0, augment=0.3, **FFHQ),
    "imagenet32": Preset("imagenet_resized/32x32", 32, 0.5, 0.5, widths=IMAGENET_WIDTHS[32], **IMAGENET),
    "imagenet64": Preset("imagenet_resized/64x64", 64, 1.0, 0.4, widths=IMAGENET_WIDTHS[64], **IMAGENET),
}


def get_config(name="ffhq64"):
    if name not in PRESETS:
        raise ConfigError(f"r3gan:{name}: the presets are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    during = f"in {preset.schedule_kimg} kimg"
    config = jaxgan.config("cifar_r3gan")
    config.data.name = preset.data
    config.data.image_size = preset.size
    config.data.eval_split = "validation"
    config.data.held_out = 0.0  # the authors trained on all of FFHQ
    config.model.conditional = preset.data != "images"
    for net in (config.model.g, config.model.d):
        net.channels = preset.widths
        net.group_width = preset.group_width
    config.dtype = "bfloat16"  # in the four largest stages, but not at 4x4
    config.batch_size = preset.batch_size
    for penalty in (config.penalty.r1, config.penalty.r2):
        penalty.weight = preset.gamma / 2
        penalty.weight_schedule = f"cosine to {preset.gamma / 20} {during}"
    config.augment.p_schedule = f"cosine to {preset.augment} {during}"
    for optim in (config.optim_g, config.optim_d):
        optim.lr_schedule = f"cosine to 5e-5 {during}"
        optim.b2_schedule = f"cosine to 0.99 {during}"
    config.ema.half_life_kimg_schedule = f"cosine to {preset.half_life_kimg} {during}"
    config.train_kimg = preset.train_kimg
    config.eval.metrics = ()
    config.checkpoint.best_metric = ""
    return config
