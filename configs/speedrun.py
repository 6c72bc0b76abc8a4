"""CIFAR-10 in minutes of one GPU: the recipe of laptop.py, four times as wide, in batches of 64 and bfloat16.

    jaxgan train --config=speedrun

Cost: 6 minutes of one H200; score: fd_cifar 1.3.

This is no published recipe, and no score on a GPU chose anything in it. One run on a JPEG copy of CIFAR-10, seed 0,
with an empty compilation cache; the scores are those of 5,000 samples that a run gives itself, at the end of 10,000,
and of CIFAR-10's 10,000 test images:

    thousand images                 400    800   1200   1600   2000   2400    of 10,000   test images
    minutes from the command on     2.2    2.8    3.5    4.1    4.8    5.5
    fd_cifar                       1.78   1.37   1.37   1.38   1.28   1.25     1.26         0.11
    recall_cifar                                                               0.80         0.92
    swd                            18.6   20.5   19.2   21.6   20.5   20.8    18.6          5.5
    msssim                        0.115  0.124  0.116  0.117  0.121  0.114     0.121        0.090
    colourfulness                  25.5   25.4   26.2   26.6   27.4   27.9    27.3         31.3

It made 12,580 images a second between its scores, 12 % of what the card can multiply. By the features of another
classifier it is no better than laptop.py (docs/speedrun.md). Training longer has not been tried, nor FID measured.
"""

import jaxgan


def get_config():
    config = jaxgan.config("laptop")
    config.dtype = "bfloat16"
    config.model.g.channels = (512, 256, 128, 128)
    config.model.d.channels = (128, 256, 512, 512)
    config.batch_size = 64
    config.steps_per_dispatch = 8
    config.ema.half_life_kimg = 500.0  # the average grows to 0.08 of the images seen, as in laptop.py, for longer
    config.train_kimg = 2_400.0
    config.log.every_kimg = 25.6
    for section in (config.sample, config.health, config.checkpoint):
        section.every_kimg = 200.0
    config.eval.every_kimg = 400.0
    return config
