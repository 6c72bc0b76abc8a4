"""CIFAR-10 with StyleGAN2-ADA (Karras et al. 2020b), class-conditional, as its authors train it.

    python -m jaxgan.main --config=configs/cifar_stylegan2_ada.py

Recipe: the official `cifar`: non-saturating loss, R1 with gamma 0.01 at every 16th D step through the augmentation, no
path length, no style mixing, batch 64, 100 million real images, not mirrored, average of G with a half-life of 500
kimg, and the pipe "bgc" with a p that keeps the mean sign of D's logits on reals at 0.6. StudioGAN's run over 64
million images took 9 d 20 h on two GPUs with its evaluations. Published: FID 2.42, IS 10.14 (the paper, 50k samples
against 50k training images); StudioGAN FID 2.31, IS 10.53. Ours: not yet measured.

    --config=configs/cifar_stylegan2_ada.py:unconditional    without labels

Deviations: D steps before G, not after it; R1 is added to the loss of every 16th D step instead of a step of its own;
bfloat16 where the source has float16; p moves a little at every step, by the same share of images, instead of at every
fourth, and stays below 1.
"""

from jaxgan.settings import default_config, is_conditional


def get_config(variant="conditional"):
    config = default_config()
    config.model.conditional = is_conditional(variant, "configs/cifar_stylegan2_ada.py")
    config.model.name = "stylegan2"
    config.model.z_dim = 512
    config.dtype = "bfloat16"  # but at 4x4
    config.loss = "ns"
    config.penalty.r1.weight = 0.005  # gamma / 2
    config.penalty.r1.interval = 16
    config.data.flip = False
    config.augment.name = "ada"
    config.augment.p = 0.0
    config.augment.target = 0.6
    config.train_kimg = 100_000.0
    # 0.0025 and 0.99, corrected by the source for its additional, lazy steps.
    config.optim_g.lr, config.optim_g.b2 = 0.0025 * 4 / 5, 0.99 ** (4 / 5)
    config.optim_d.lr, config.optim_d.b2 = 0.0025 * 16 / 17, 0.99 ** (16 / 17)
    config.ema.half_life_kimg = 500.0
    config.log.every_kimg = 102.4
    for section in (config.sample, config.diagnose, config.checkpoint, config.eval):
        section.every_kimg = 1024.0
    config.eval.metrics = ("fd_cifar", "is_cifar")
    config.checkpoint.best_metric, config.checkpoint.best_mode = "eval/fd_cifar", "min"
    return config
