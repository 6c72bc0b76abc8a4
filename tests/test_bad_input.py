"""What nobody should be able to ask for: each is one line that names it, status 2, and nothing computed or written."""

import importlib
import re
import shlex

import numpy as np
import pytest

import jaxgan
from jaxgan.core import memory
from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError
from jaxgan.data import DataSpec
from jaxgan.evaluation.features import FeatureExtractor
from jaxgan.sampling.generator import Generator
from jaxgan.settings import Settings
from jaxgan.training import loop
from tests.helpers import tiny_generator

# What is typed and, below it, what the line on stderr begins with.
TABLE = r"""
train
    --config is not given: A packaged config
train --config=
    --config is not given: A packaged config
train --config=cifer
    --config='cifer': choose one of cifar, cifar_biggan, cifar_biggan_diffaug
train --config=configs/absent.py
    --config='configs/absent.py': there is no such file
train --config=cifar:both
    cifar:both: the variants are conditional and unconditional
train --config=digits:conditional
    --config='digits:conditional': it has no variants
train --config=digits extra
    arguments that mean nothing here: extra (settings are written
train --config=digits --config.optim_g.learning_rate=1
    config.optim_g.learning_rate does not exist
train --config=digits --config.optm_g.lr=1
    config.optm_g.lr does not exist
train --config=digits --config.optim_g=adam
    config.optim_g is a section: set one of config.optim_g.b1
train --config=digits --config.zzzzz=1
    config.zzzzz does not exist; see jaxgan/settings.py
train --config=digits --wrkdir=x
    --wrkdir does not exist; nearest: --workdir
train --config=digits --batch_size=8
    --batch_size does not exist; nearest: --config.batch_size
train --config=digits --processes=two
    --processes=two: must be a whole number
train --config=digits --processes=-1
    --coordinator='' --processes=-1 --process_id=-1: give all three
train --config=digits --coordinator=localhost:1
    --coordinator='localhost:1' --processes=0 --process_id=-1: give all
train --config=digits --coordinator=localhost --processes=2 --process_id=0
    --coordinator='localhost' --processes=2 --process_id=0: give all three
train --config=digits --coordinator=localhost:1 --processes=2
    --coordinator='localhost:1' --processes=2 --process_id=-1: give all
train --config=digits --coordinator=localhost:1 --processes=2 --process_id=2
    --coordinator='localhost:1' --processes=2 --process_id=2: give all
train --config=digits --process_id=0
    --coordinator='' --processes=0 --process_id=0: give all three
train --config=digits --workdir=gs://bucket/run
    --workdir='gs://bucket/run': must be on this machine
train --config=digits --config.batch_size=many
    --config.batch_size=many: must be a whole number
train --config=digits --config.batch_size=1.5
    --config.batch_size=1.5: must be a whole number
train --config=digits --config.batch_size=0
    config.batch_size=0: must be above 0
train --config=digits --config.batch_size=-64
    config.batch_size=-64: must be above 0
train --config=digits --config.batch_size=63
    config.batch_size=63: must be a multiple of the 2 devices
train --config=digits --config.train_kimg=0
    config.train_kimg=0.0: must be above 0
train --config=digits --config.train_kimg=nan
    config.train_kimg=nan: must be above 0
train --config=digits --config.train_kimg=inf
    config.train_kimg=inf: must be a finite number, 0 or above
train --config=digits --config.train_kimg=soon
    --config.train_kimg=soon: must be a number
train --config=digits --config.train_kimg=1e15
    config.train_kimg=1000000000000000.0: makes 3.12e+16 batches
train --config=digits --config.seed=-1
    config.seed=-1: must be in 0 .. 2147483647
train --config=digits --config.seed=2147483648
    config.seed=2147483648: must be in 0 .. 2147483647
train --config=digits --config.seed=1e3
    --config.seed=1e3: must be a whole number
train --config=digits --config.steps_per_dispatch=0
    config.steps_per_dispatch=0: must be above 0
train --config=digits --config.parallel=threads
    config.parallel='threads': choose pmap or shard_map
train --config=digits --config.dtype=float16
    config.dtype='float16': choose one of float32, bfloat16
train --config=digits --config.dtype=
    config.dtype='': choose one of float32, bfloat16
train --config=digits --config.data.flip=maybe
    --config.data.flip=maybe: must be True or False
train --config=digits --config.data.name=
    config.data.name='': Parsing builder name string failed; one of your own must be in jaxgan.DATASETS first
train --config=digits --config.data.name=nosuch
    config.data.name='nosuch': Dataset nosuch not found; one of your own must be in jaxgan.DATASETS first
train --config=digits --config.data.name=images
    config.data.dir='': name a directory of images, a FILE.zip, a FILE.tar
train --config=digits --config.data.name=images --config.data.dir=/nowhere
    config.data.dir='/nowhere': there is no such directory or file
train --config=digits --config.data.name=images --config.data.dir=/nowhere.npz
    config.data.dir='/nowhere.npz': there is no such directory or file
train --config=digits --config.data.image_size=abc
    image_size='abc': must be of type int or tuple, as 8 is
train --config=digits --config.data.image_size=16,32
    config.data.image_size=(16, 32): mlp works at squares of 8 to 64
train --config=digits --config.data.channels=2
    config.data.channels=2: choose auto, 1, 3 or 4
train --config=digits --config.data.crop=middle
    config.data.crop='middle': choose one of center, random, none
train --config=digits --config.data.alpha=reddish
    config.data.alpha='reddish': must be a colour, such as white, black or #ff8000
train --config=digits --config.data.held_out=1
    config.data.held_out=1.0: must be below 1
train --config=digits --config.data.image_size=0
    config.data.image_size=0: must be a whole number, 1 or above
train --config=digits --config.data.image_size=-8
    config.data.image_size=-8: must be a whole number, 1 or above
train --config=cifar_dcgan --config.data.image_size=8
    config.data.image_size=8: dcgan works at 16, 32, 64
train --config=r3gan
    config.data.dir='': name a directory of images, a FILE.zip, a FILE.tar
train --config=digits --config.model.name=stylegan9
    config.model.name='stylegan9': choose one of mlp, dcgan, dcgan_strided
train --config=digits --config.model.name=
    config.model.name='': choose one of mlp, dcgan, dcgan_strided, sngan
train --config=digits --config.model.name=sngan
    config.data.image_size=8: sngan works at 16, 32, 64
train --config=digits --config.model.z_dim=0
    config.model.z_dim=0: must be above 0
train --config=digits --config.model.z_dim=3000000000
    config.model.g.channels=(256, 512), config.model.d.channels=(64
train --config=digits --config.model.fake_labels=fake
    config.model.fake_labels='fake': choose uniform or real
train --config=digits --config.model.conditional=perhaps
    --config.model.conditional=perhaps: must be True or False
train --config=digits --config.model.conditioning=ac
    config.model.conditioning='ac': takes classes
train --config=digits --config.model.conditioning=cproj
    config.model.conditioning='cproj': choose one of projection, ac
train --config=digits --config.model.g.channels=16
    config.model.g.channels=(16,): 8x8 pixels take 2 widths, such as (128, 1024)
train --config=digits --config.model.g.channels=16,-1
    config.model.g.channels=(16, -1): widths are whole numbers from 1 on
train --config=digits --config.model.g.channels=16,0
    config.model.g.channels=(16, 0): widths are whole numbers from 1 on
train --config=digits --config.model.g.channels=True,16
    config.model.g.channels=('True', 16): widths are whole numbers from 1 on
train --config=digits --config.model.g.channels=16.0,16
    config.model.g.channels=(16.0, 16): widths are whole numbers from 1 on
train --config=digits --config.model.g.channels=16,wide
    config.model.g.channels=(16, 'wide'): widths are whole numbers from 1 on
train --config=digits --config.model.g.channels=250000,250000
    config.model.g.channels=(250000, 250000), config.model.d.channels=(64
train --config=digits --config.model.d.channels=16,16,16
    config.model.d.channels=(16, 16, 16): 8x8 pixels take 2 widths, such as (64
train --config=digits --config.model.g.shared_dim=8
    config.model.g.shared_dim=8: mlp has no such field; it has none of its own
train --config=digits --config.model.g.wings=2
    config.model.g.wings does not exist
train --config=cifar --config.model.g.bn_eps=small
    --config.model.g.bn_eps=small: must be a number
train --config=digits --config.loss=hing
    config.loss='hing': choose one of minimax, ns, hinge, lsgan, wgan, rpgan
train --config=digits --config.loss=
    config.loss='': choose one of minimax, ns, hinge, lsgan, wgan, rpgan
train --config=digits --config.d_steps=0
    config.d_steps=0: must be above 0
train --config=digits --config.top_k_fraction=0
    config.top_k_fraction=0.0: must stay above 0
train --config=digits --config.top_k_fraction=1.5
    config.top_k_fraction=1.5: must be at most 1
train --config=digits --config.penalty.r1.weight=-0.1
    config.penalty.r1.weight=-0.1: must be a finite number, 0 or above
train --config=digits --config.penalty.r1.weight=nan
    config.penalty.r1.weight=nan: must be a finite number, 0 or above
train --config=digits --config.penalty.r1.interval=0
    config.penalty.r1.interval=0: must be 1 or above
evaluate --images={small} --metrics=is --inception_weights=nofile
    --inception_weights='nofile':
train --config=digits --config.model.g.channels=(16,16
    --config.model.g.channels=(16,16: a bracket is missing
train --config=digits --config.penalty.r1.fraction=0.3
    config.penalty.r1.fraction=0.3: give 1, or one over a whole number
train --config=digits --config.penalty.r1_difference.weight=1 --config.dtype=bfloat16
    config.penalty.r1_difference: takes small differences of logits, which need a D in float32, not bfloat16
train --config=laptop_dcgan --config.penalty.r2_difference.weight=1
    config.penalty.r2_difference: needs a D that takes each image by itself, which that of jaxgan.models.dcgan_strided
train --config=laptop_dcgan --config.penalty.cr.weight=10 --config.penalty.cr.fraction=0.5
    config.penalty.cr.fraction=0.5: must be 1, as D's logits depend on the rest of the batch
train --config=digits --config.penalty.r1.weight=1 --config.penalty.r1.fraction=0.2
    config.penalty.r1.fraction=0.2: must be one over a divisor of the 32 images
train --config=digits --config.penalty.r1.weight=1 --config.penalty.r1.interval=7
    config.penalty.r1.interval=7: must divide the 100 D steps between two log
train --config=digits --config.penalty.path.weight=2
    config.penalty.path.weight=2.0: mlp has no styles; stylegan2 has
train --config=digits --config.penalty.r3.weight=2
    config.penalty.r3.weight does not exist
train --config=digits --config.augment.name=colour
    config.augment.name='colour': choose one of diffaugment, ada, blit, geom
train --config=digits --config.augment.p=1.5
    config.augment.p=1.5: must be at most 1
train --config=digits --config.augment.p_schedule=up
    config.augment.p_schedule='up': give "constant", "linear to V [in K kimg]"
train --config=digits --config.augment.target=1
    config.augment.target=1.0: must be in [0, 1)
train --config=digits --config.augment.target=0.6
    config.augment.name='': must name an augmentation
train --config=digits --config.optim_g.name=lion
    config.optim_g.name='lion': choose one of adam, adamw, rmsprop, sgd
train --config=digits --config.optim_g.lr=-1
    config.optim_g.lr=-1.0: must be a finite number, 0 or above
train --config=digits --config.optim_g.lr=inf
    config.optim_g.lr=inf: must be a finite number, 0 or above
train --config=digits --config.optim_g.lr=fast
    --config.optim_g.lr=fast: must be a number
train --config=digits --config.optim_g.lr_schedule=down
    config.optim_g.lr_schedule='down': give "constant"
train --config=digits --config.optim_g.b1=1
    config.optim_g.b1=1.0: must be in [0, 1)
train --config=digits --config.optim_g.b2=-0.1
    config.optim_g.b2=-0.1: must be a finite number, 0 or above
train --config=digits --config.optim_g.b2_schedule="linear to 1"
    config.optim_g.b2_schedule='linear to 1': must be in [0, 1)
train --config=digits --config.optim_d.eps=0
    config.optim_d.eps=0.0: must be above 0: a gradient of 0 would be divided
train --config=digits --config.optim_d.momentum=0.9
    config.optim_d.momentum=0.9: adam has none; config.optim_d.name='sgd' has
train --config=digits --config.optim_d.weight_decay=0.1
    config.optim_d.weight_decay=0.1: adam has none
train --config=digits --config.optim_d.clip_norm=-1
    config.optim_d.clip_norm=-1.0: must be a finite number, 0 or above
train --config=digits --config.ema.half_life_kimg=-1
    config.ema.half_life_kimg=-1.0: must be a finite number, 0 or above
train --config=digits --config.ema.rampup=nan
    config.ema.rampup=nan: must be a finite number, 0 or above
train --config=digits --config.ema.sigma_rel=5
    config.ema.sigma_rel=5.0: must be above 0 and at most 0.2887
train --config=digits --config.ema.posthoc=0.1
    config.ema.sigma_rel=0.0: config.ema.posthoc takes a power-function EMA
train --config=digits --config.ema.sigma_rel=0.1 --config.ema.posthoc=0.1
    config.ema.posthoc=(0.1,): give relative stds
train --config=digits --config.ema.sigma_rel=0.1 --config.ema.posthoc=small
    config.ema.posthoc=('small',): give relative stds, such as 0.05,0.1
train --config=digits --config.log.every_kimg=-1
    config.log.every_kimg=-1.0: must be a finite number, 0 or above
train --config=digits --config.log.trackers=wandb
    config.log.trackers=('wandb',): wandb needs pip install 'jaxgan[wandb]'
train --config=digits --config.log.trackers=tensorbored
    config.log.trackers='tensorbored': choose one of tensorboard, wandb, trackio, mlflow
train --config=digits --config.sample.every_kimg=nan
    config.sample.every_kimg=nan: must be a finite number, 0 or above
train --config=digits --config.sample.grid=0
    config.sample.grid=0: must be above 0
train --config=digits --config.sample.grid=1000000
    config.sample.grid=1000000: the images take
train --config=digits --config.steps_per_dispatch=1000000 --config.log.every_kimg=64000
    config.steps_per_dispatch=1000000: the batches of images take
train --config=digits --config.batch_size=100000000
    config.batch_size=100000000: the batches of images take
train --config=digits --config.eval.every_kimg=inf
    config.eval.every_kimg=inf: must be a finite number, 0 or above
train --config=digits --config.eval.metrics=modes,kidd
    config.eval.metrics='kidd': choose one of fid, sfid, fid_infinity
train --config=digits --config.eval.metrics=modes,modes
    config.eval.metrics='modes,modes': names a metric twice; once is enough
train --config=digits --config.eval.metrics=fd_cifar
    config.eval.metrics='fd_cifar': is defined for the data set cifar10 and images of 32x32x3 only
train --config=digits --config.freeze.d_layers=1
    config.freeze.d_layers=1: keeps weights that the net begins with, so name a run in config.init_from
train --config=digits --config.eval.metrics=fid_per_class
    config.eval.metrics='fid_per_class': takes the classes of the samples
train --config=digits --config.eval.num_samples=1
    config.eval.num_samples=1: must be a whole number in 2 .. 2147483647
train --config=digits --config.eval.num_samples=1e4
    --config.eval.num_samples=1e4: must be a whole number
train --config=digits --config.eval.num_samples=1000000000000
    config.eval.num_samples=1000000000000: must be a whole number in 2 ..
train --config=digits --config.eval.num_reals=1
    config.eval.num_reals=1: must be a whole number, 0 (all) or 2 or above
train --config=digits --config.eval.num_reals=-1
    config.eval.num_reals=-1: must be a whole number, 0 (all) or 2 or above
train --config=digits --config.eval.num_reals=60000
    config.eval.num_reals=60000: there are 50000 reals
train --config=cifar --config.eval.metrics=kid_cifar --config.eval.num_samples=999
    config.eval.num_samples=999: kid_cifar takes at least 1000 fakes
train --config=cifar --config.eval.metrics=kid_cifar --config.eval.num_reals=999
    config.eval.num_reals=999: kid_cifar takes at least 1000 reals
train --config=cifar --config.eval.metrics=is_cifar --config.eval.num_samples=15
    config.eval.num_samples=15: is_cifar takes at least 20 fakes
train --config=cifar --config.eval.metrics=prdc_cifar --config.eval.num_samples=5
    config.eval.num_samples=5: prdc_cifar takes at least 6 fakes
train --config=cifar --config.eval.metrics=fd_infinity_cifar --config.eval.num_samples=5000
    config.eval.num_samples=5000: fd_infinity_cifar takes at least 5001 fakes
train --config=digits --config.health.every_kimg=-0.1
    config.health.every_kimg=-0.1: must be a finite number, 0 or above
train --config=digits --config.checkpoint.every_kimg=-0.1
    config.checkpoint.every_kimg=-0.1: must be a finite number, 0 or above
train --config=digits --config.checkpoint.keep_every_kimg=nan
    config.checkpoint.keep_every_kimg=nan: must be a finite number, 0 or above
train --config=digits --config.checkpoint.keep_last=0
    config.checkpoint.keep_last=0: must be above 0
train --config=digits --config.checkpoint.best_metric=eval/fid
    config.checkpoint.best_metric='eval/fid': is not among the results
train --config=digits --config.checkpoint.best_metric=modes
    config.checkpoint.best_metric='modes': is not among the results that
train --config=digits --config.checkpoint.allow_config_change=so
    --config.checkpoint.allow_config_change=so: must be True or False
plan
    --config is not given: A packaged config
plan --config=digits
    --topology is not given: Devices to compile for, such as v5e:2x4.
plan --config=digits --topology=
    --topology is not given: Devices to compile for, such as v5e:2x4.
plan --config=digits --topology=v9:2x2
    --topology='v9:2x2': begins with none of v2, v3, v4, v5e, v5p, v6e, l4
plan --config=digits --topology=v5e
    --topology='v5e': write the devices as in v5e:2x2, or v4:2x2x4
plan --config=digits --topology=v5e:0x4
    --topology='v5e:0x4': write the devices as in v5e:2x2, or v4:2x2x4
plan --config=digits --topology=v5e:axb
    --topology='v5e:axb': write the devices as in v5e:2x2, or v4:2x2x4
plan --config=digits --topology=h100:0
    --topology='h100:0': write the devices as in h100:8 or 2x8 (hosts x GPUs)
plan --config=digits --topology=h100:8 --search=perhaps
    --search=perhaps: must be True or False
plan --config=digits --topology=h100:8 --config.loss=hing
    config.loss='hing': choose one of minimax, ns, hinge, lsgan, wgan, rpgan
plan --config=cifer --topology=h100:8
    --config='cifer': choose one of cifar, cifar_biggan, cifar_biggan_diffaug
sample --out=x.png
    --workdir is not given: Run, checkpoint directory or checkpoint to sample
sample --workdir={run}
    --out is not given: FILE.png (one grid)
sample --workdir={run} --out=
    --out is not given: FILE.png (one grid)
sample --workdir= --out=x.png
    --workdir is not given: Run, checkpoint directory or checkpoint to sample
sample --workdir=. --out=x.png
    --workdir='.': no checkpoint in {here}: no numbered directory in it or in
sample --workdir=/nowhere --out=x.png
    --workdir='/nowhere': no checkpoint in /nowhere: no numbered directory in it or in
sample --workdir=/nowhere --out=x.gif --interpolate
    --workdir='/nowhere': no checkpoint in /nowhere: no numbered directory in it or in
sample --workdir={run} --out=x.tiff
    --out='x.tiff': name a FILE.png, a FILE.npz or a directory (without a dot)
sample --workdir={run} --out=x.avi --interpolate
    --out='x.avi': name a FILE.png, a FILE.npz or a directory (without a dot), or for a film a FILE.mp4, FILE.webp
sample --workdir={run} --out=x.png --num=0
    --num=0: 0 is not a positive integer
sample --workdir={run} --out=x.png --num=many
    --num=many: must be a whole number
sample --workdir={run} --out=x.png --num=1e12
    --num=1e12: must be a whole number
sample --workdir={run} --out=x.png --num=1000000000000
    --num=1000000000000: must be a whole number in 1 .. 2147483647
sample --workdir={run} --out=x.png --num=2000000000
    --num=2000000000: the latents and images take 477
sample --workdir={run} --out=x.png --step=7
    --step=7: {run} has the checkpoints 1
sample --workdir={run} --out=x.png --step=last
    --step='last': give a number, newest, best or all
sample --workdir={run} --out=x.png --step=all
    --step='all': give a number, newest or best
sample --workdir={run} --out=x.png --step=-1
    --step='-1': give a number, newest, best or all
sample --workdir={classes} --out=x.png --step=best
    --step='best': the run has no config.checkpoint.best_metric to say which is
sample --workdir={run} --out=x.png --seed=-1
    --seed=-1: -1 is not an integer in the range [0, 2147483647]
sample --workdir={run} --out=x.png --seed=2147483648
    --seed=2147483648: 2147483648 is not an integer in the range [0, 2147483647]
sample --workdir={run} --out=x.png --labels=1
    --labels=['1']: this generator is unconditional
sample --workdir={classes} --out=x.png --labels=foo
    --labels=['foo']: give integers, one or a list of them; classes are 0 .. 2
sample --workdir={classes} --out=x.png --labels=3
    --labels=['3']: give integers, one or a list of them; classes are 0 .. 2
sample --workdir={classes} --out=x.png --labels=-1
    --labels=['-1']: give integers, one or a list of them; classes are 0 .. 2
sample --workdir={classes} --out=x.png --labels=3000000000
    --labels=['3000000000']: give integers, one or a list of them
sample --workdir={classes} --out=x.png --labels=1.5
    --labels=['1.5']: give integers, one or a list of them; classes are 0 .. 2
sample --workdir={classes} --out=x.png --labels=
    --labels=[]: give integers, one or a list of them; classes are 0 .. 2
sample --workdir={run} --out=x.png --truncation=0
    --truncation=0.0: the bound must be a finite number above 0
sample --workdir={run} --out=x.png --truncation=nan
    --truncation=nan: the bound must be a finite number above 0
sample --workdir={run} --out=x.png --truncation=some
    --truncation=some: must be a number
sample --workdir={run} --out=x.png --columns=-1
    --columns=-1: -1 is not a non-negative integer
sample --workdir={run} --out=x.png --per_class
    generator=Generator(mlp, 8x8x3, step 1): is unconditional and has no class
sample --workdir={run} --out=x.png --per_class --interpolate
    --per_class and --interpolate: give one of them
sample --workdir={classes} --out=x.png --per_class --labels=1
    --labels means nothing with --per_class
sample --workdir={run} --out=x.png --interpolate --space=w
    --space='w': this generator has no styles; choose z
sample --workdir={run} --out=x.png --interpolate --space=v
    --space=v: value should be one of <z|w>
sample --workdir={run} --out=x.png --space=w
    --space goes with --interpolate
sample --workdir={run} --out=x.png --sefa=0
    --sefa=0: 0 is not a positive integer
sample --workdir={run} --out=x.png --sefa=17
    --sefa=17: latents of 16 numbers have 1 .. 16
sample --workdir={run} --out=x.png --sefa=2 --layers=0
    --layers=[0]: this generator has no styles
sample --workdir={run} --out=x.png --sefa=2 --layers=foo
    --layers=['foo']: give whole numbers, such as 0,1,2
sample --workdir={run} --out=x.png --sefa=2 --extent=nan
    --extent=nan: must be a finite number
sample --workdir={run} --out=x.png --sefa=2 --num=3
    --num means nothing with --sefa
sample --workdir={run} --out=x.png --extent=3
    --extent goes with --sefa
sample --workdir={run} --out=x.png --invert=/nowhere.png
    --invert='/nowhere.png': there is no such file or directory
sample --workdir={run} --out=x.png --invert=.
    --invert='{here}': holds no image (.png, 
sample --workdir={run} --out=x.png --invert={broken} --steps=-1
    --steps=-1: -1 is not a non-negative integer
sample --workdir={run} --out=x.png --invert={broken}
    --invert='{broken}': is no picture that can be read: its format is not known
sample --workdir={run} --out=x.png --sigma_rel=nan
    --sigma_rel=nan: must be above 0 and at most 0.2887
sample --workdir={run} --out=x.png --sigma_rel=0.1
    --sigma_rel=0.1: the EMA of this run is no power function
sample --workdir={run} --out=x.png --nmu=3
    --nmu does not exist; nearest: --num
sample --workdir={run} --out=x.png extra
    arguments that mean nothing here: extra (settings are written
evaluate
    give either --workdir=RUN or --images=DIR|FILE.npz
evaluate --workdir={run} --images=x.npz
    give either --workdir=RUN or --images=DIR|FILE.npz
evaluate --workdir=. --num=50
    --workdir='.': no checkpoint in {here}: no numbered directory in it or in
evaluate --workdir={run} --step=last
    --step='last': give a number, newest, best or all
evaluate --workdir={run} --step=7
    --step=7: {run} has the checkpoints 1
evaluate --workdir={classes} --step=best
    --step='best': the run has no config.checkpoint.best_metric to say which is
evaluate --workdir={run} --metrics=fidd
    --metrics='fidd': choose one of fid, sfid, fid_infinity, fid_per_class
evaluate --workdir={run} --metrics=modes,modes
    --metrics='modes,modes': names a metric twice; once is enough
evaluate --workdir={run} --metrics=modes --num=1
    --num=1: 1 is not integer >= 2
evaluate --workdir={run} --metrics=modes --num=1e4
    --num=1e4: must be a whole number
evaluate --workdir={run} --metrics=modes --num=1000000000000
    --num=1000000000000: must be a whole number in 2 .. 2147483647
evaluate --workdir={run} --metrics=is_cifar --num=2000000000
    --num=2000000000: the features take 75 GiB of memory, and there are 16 GiB
evaluate --workdir={run} --metrics=modes --num_reals=1
    --num_reals=1: must be a whole number, 0 (all) or 2 or above
evaluate --workdir={run} --metrics=modes --num_reals=-1
    --num_reals=-1: -1 is not a non-negative integer
evaluate --workdir={run} --metrics=modes --seed=-1
    --seed=-1: -1 is not an integer in the range [0, 2147483647]
evaluate --workdir={run} --metrics=modes --is_splits=0
    --is_splits=0: 0 is not a positive integer
evaluate --workdir={run} --metrics=is_cifar --is_splits=40 --num=50
    --num=50: is_cifar takes at least 80 fakes, 2 in each of 40 splits
evaluate --workdir={run} --metrics=kid_cifar --num=50
    --num=50: kid_cifar takes at least 1000 fakes
evaluate --workdir={run} --metrics=kid_cifar --num=1000 --num_reals=500
    --num_reals=500: kid_cifar takes at least 1000 reals
evaluate --workdir={run} --metrics=prdc_cifar --num=5
    --num=5: prdc_cifar takes at least 6 fakes
evaluate --workdir={run} --metrics=fd_infinity_cifar --num=5000
    --num=5000: fd_infinity_cifar takes at least 5001 fakes
evaluate --workdir={run} --metrics=modes --protocol=A
    --protocol='A': choose one of studiogan, mimicry, nvidia, compare_gan
evaluate --workdir={run} --metrics=modes --flips=so
    --flips=so: must be True or False
evaluate --workdir={run} --metrics=modes --standing_batches=-1
    --standing_batches=-1: -1 is not a non-negative integer
evaluate --workdir={run} --metrics=modes --sigma_rel=0.1
    --sigma_rel=0.1: the EMA of this run is no power function
evaluate --workdir={run} --metrics=modes --neighbours=x.gif
    --neighbours='x.gif': name a FILE.png
evaluate --workdir={run} --metrics=modes --neighbours=x.png
    --neighbours='{here}/x.png': takes a metric that compares with reals
evaluate --workdir={run} --metrics=prdc_cifar --num=50 --reals=mnistt
    --reals='mnistt': Dataset mnistt not found; nearest: mnist, kmnist, emnist; one of your own
evaluate --workdir={run} --metrics=prdc_cifar --num=50 --reals={large}
    --reals='{large}': has images of 32x32 pixels
evaluate --workdir={run} --metrics=modes --num=50 --reals={large}
    --reals='{large}': has images of 32x32 pixels
evaluate --workdir={run} --metrics=prdc_cifar --num=50 --reals={small} --num_reals=41
    --num_reals=41: there are 40 reals
evaluate --workdir={run} --metrics=kid_cifar --num=1000 --reals={small}
    --reals='{small}': kid_cifar takes at least 1000 reals, there are 40
evaluate --workdir={run} --metrics=accuracy_cifar --num=50
    --metrics='accuracy_cifar': takes the classes of the images
evaluate --workdir={run} --metrics=fd_per_class_cifar --num=50 --reals={small}
    --reals='{small}': have no labels, which fd_per_class_cifar takes
evaluate --images={small}
    --metrics is not given: choose from fid, sfid, fid_infinity, fid_per_class
evaluate --images=/nowhere --metrics=modes
    --images='/nowhere': there is no such directory or file
evaluate --images=/nowhere.npz --metrics=modes
    --images='/nowhere.npz': there is no such directory or file
evaluate --images={broken} --metrics=modes
    --images='{broken}': name a directory of images, a FILE.zip, a FILE.tar
evaluate --images={small} --metrics=is_cifar --num=41
    --num=41: there are 40 images
evaluate --images={small} --metrics=modes --step=3
    --step='3': --images have no checkpoints
evaluate --images={small} --metrics=modes --sigma_rel=0.1
    --sigma_rel=0.1: --images have no EMA
evaluate --images={small} --metrics=modes --standing_batches=2
    --standing_batches=2: --images have no batch norm
evaluate --images={small} --metrics=prdc_cifar
    --reals=None: name the directory
evaluate --images={small} --metrics=prdc_cifar --reals={large}
    --reals='{large}': has images of 32x32 pixels
evaluate --images={small} --metrics=accuracy_cifar
    --metrics='accuracy_cifar': takes the classes of the images
evaluate --images={small} --metrics=kid_cifar --reals={small}
    --num=40: kid_cifar takes at least 1000 fakes
evaluate --images={small} --metrics=is_cifar --is_splits=40
    --num=40: is_cifar takes at least 80 fakes, 2 in each of 40 splits
convert {small} out
    --file='{small}': {small} is not a file of networks that can be read safely: the archive has 0 data.pkl
convert {broken} out
    --file='{broken}': {broken} is not a file of networks
convert {broken}.pkl out
    --file='{broken}.pkl': there is no such file
evaluate --images={small} --metrics=is_cifar --neighbours=x.png
    --neighbours='{here}/x.png': takes a metric that compares with reals
"""
ROWS = dict(re.findall(r"^(\S.*)\n    (.*)$", TABLE, re.MULTILINE))


def save_run(workdir, num_classes):
    """Saves what a run of an untrained generator would, and returns its directory."""
    generator, config = tiny_generator("mlp", num_classes=num_classes), jaxgan.config("digits")
    config.model.z_dim, config.model.g.channels = generator.z_dim, generator.module.channels
    config.model.conditional = num_classes > 0
    if num_classes:
        config.checkpoint.best_metric = ""
    about = {"config": config.to_dict(), "data": DataSpec(8, 3, num_classes, 50_000, "")._asdict()}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(1, {"ema": generator.variables}, about, {})
    return workdir


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Runs and images by the names that the rows give them."""
    root = tmp_path_factory.mktemp("places")
    draw = np.random.default_rng(0)
    for name, size in (("small", 8), ("large", 32)):
        np.savez(root / f"{name}.npz", images=draw.integers(0, 256, (40, size, size, 3), np.uint8))
    (root / "broken.png").write_bytes(b"no picture")
    files = {"small": root / "small.npz", "large": root / "large.npz", "broken": root / "broken.png"}
    return files | {"run": save_run(root / "run", 0), "classes": save_run(root / "classes", 3)}


@pytest.fixture(autouse=True)
def nothing_may_begin(monkeypatch):
    def begin(*args, **kwargs):
        raise AssertionError("something was computed or written")

    # The parser of flags makes YAML of a config, twice, and looks at none: that takes longer than all else.
    monkeypatch.setattr(Settings, "__str__", lambda self: "a config", raising=False)
    monkeypatch.setattr(memory, "host_bytes", lambda: 2**34)  # on any machine
    monkeypatch.setattr(loop, "make_directories", begin)
    monkeypatch.setattr(FeatureExtractor, "from_samples", begin)
    monkeypatch.setattr(FeatureExtractor, "from_images", begin)
    monkeypatch.setattr(Generator, "generate", begin)


@pytest.mark.parametrize("typed", ROWS)
def test_bad_input(typed, places, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *arguments = (word.format(**places) for word in shlex.split(typed))
    status = importlib.import_module(f"jaxgan.commands.{name}").main(arguments)
    message = capsys.readouterr().err
    assert status == 2, message
    assert message.startswith("error: " + ROWS[typed].format(**places, here=tmp_path)), message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


IMAGES = np.zeros((4, 8, 8, 3), np.uint8)
CALLS = {
    "config=None": lambda run: jaxgan.train(None, "run"),
    "config='digits'": lambda run: jaxgan.train("digits", "run"),
    "workdir=3": lambda run: jaxgan.train(jaxgan.config("digits"), 3),
    "dataset=ndarray": lambda run: jaxgan.train(jaxgan.config("digits"), "run", IMAGES),
    "config='cifer'": lambda run: jaxgan.config("cifer"),
    "path=None": lambda run: jaxgan.load(None),
    "step=-1": lambda run: jaxgan.load(run, step=-1),
    "sigma_rel=0": lambda run: jaxgan.load(run, sigma_rel=0),
    "sigma_rel=nan": lambda run: jaxgan.load(run, sigma_rel=float("nan")),
    "n=0": lambda run: jaxgan.load(run).sample(0),
    "n=True": lambda run: jaxgan.load(run).sample(True),
    "n=1000000000000": lambda run: jaxgan.load(run).sample(10**12),
    "n=2000000000": lambda run: jaxgan.load(run).sample(2 * 10**9),
    "seed=-1": lambda run: jaxgan.load(run).sample(1, seed=-1),
    "seed=4294967296": lambda run: jaxgan.load(run).sample(1, seed=2**32),
    "labels=3": lambda run: jaxgan.load(run).sample(1, labels=3),
    "labels=[0.5]": lambda run: jaxgan.load(run).sample(1, labels=[0.5]),
    "labels=4294967296": lambda run: jaxgan.load(run).sample(1, labels=2**32),
    "truncation=0": lambda run: jaxgan.load(run).sample(1, truncation=0),
    "space='w'": lambda run: jaxgan.load(run).interpolate(1, 2, space="w"),
    "metrics='fidd'": lambda run: jaxgan.evaluate(IMAGES, metrics="fidd"),
    "metrics=3": lambda run: jaxgan.evaluate(IMAGES, metrics=3),
    "num=5": lambda run: jaxgan.evaluate(IMAGES, metrics="is_cifar", num=5, is_splits=1),
    "num=4": lambda run: jaxgan.evaluate(IMAGES, metrics="is_cifar"),
    "protocol='A'": lambda run: jaxgan.evaluate(IMAGES, metrics="is_cifar", protocol="A"),
    "split_size=3": lambda run: jaxgan.evaluate(IMAGES, metrics="is_cifar", split_size=3),
    "reals=None": lambda run: jaxgan.evaluate(IMAGES, metrics="authpct_cifar"),
    "batch_size=0": lambda run: jaxgan.evaluate(IMAGES, metrics="is_cifar", batch_size=0, is_splits=1),
    "images=[0, 8, 8, 3]": lambda run: jaxgan.save_images("x.png", IMAGES[:0], 2),
    "every_kimg=()": lambda run: jaxgan.every((), print),
    "columns=0": lambda run: jaxgan.save_images("x.png", IMAGES, 0),
    "path='x.gif'": lambda run: jaxgan.save_images("x.gif", IMAGES, 2),
}


@pytest.mark.parametrize("start", CALLS)
def test_bad_arguments(start, places, tmp_path, monkeypatch):
    """From Python it is an exception that begins with the argument."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        CALLS[start](places["classes"])
    message = str(error.value)
    assert message.startswith(start), message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())
