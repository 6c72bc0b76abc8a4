"""Every setting there is, born here with its default and its meaning; `configs/` only change them.

Durations are counted in thousands of real images shown to the discriminator (kimg), so a run means the
same at any batch size.

Beside a scalar that may change during the run stands `<name>_schedule`, in words: see jaxgan/schedules.py.
"""

import ast
import difflib
import json
from collections.abc import Iterable

from ml_collections import ConfigDict


class ConfigError(ValueError):
    """A setting that cannot work: the message names the setting, its value and what would be right."""


class RunFailed(RuntimeError):
    """A run that cannot go on although its settings were good: one line that says why and what is left."""


def _optim(lr: float) -> ConfigDict:
    return ConfigDict(
        dict(
            name="adam",  # adam, adamw, rmsprop, sgd
            lr=lr,  # learning rate
            lr_schedule="constant",
            b1=0.0,  # adam, adamw: decay of the first moment
            b2=0.9,  # adam, adamw: decay of the second moment; rmsprop: its decay
            b2_schedule="constant",
            eps=1e-8,
            momentum=0.0,  # rmsprop, sgd
            weight_decay=0.0,  # adamw
            clip_norm=0.0,  # clip the global gradient norm; 0: off
        )
    )


def default_config() -> ConfigDict:
    """The SNGAN recipe on CIFAR-10; a config file imports this and changes a few fields."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 64  # global: real images in one D step, over all devices
    config.train_kimg = 6400.0  # length of the run
    config.steps_per_call = 1  # update steps in one dispatch (lax.scan)
    config.parallel = "pmap"  # pmap or shard_map: the same step, equal results
    config.dtype = "float32"  # compute type of the nets, float32 or bfloat16; parameters are float32

    config.data = ConfigDict()
    config.data.name = "cifar10"  # cifar10 or another tfds image set, stacked_digits, folder
    config.data.split = "train"  # tfds: the split to train on
    config.data.eval_split = "test"  # tfds: held-out reals for the over-fitting check; "" for none
    config.data.image_size = 32  # pixels; larger or smaller sets are centre-cropped and resized
    config.data.flip = True  # mirror each real image with probability 1/2, on the device
    config.data.dir = ""  # folder: the directory of images. tfds: where sets are kept ("": ~/tensorflow_datasets)
    config.data.manual_dir = ""  # holds the official cifar-10-binary.tar.gz, for machines without a network
    config.data.verify_checksum = True  # False: accept an archive that is not the official one
    config.data.cache_gb = 4.0  # a set that needs more memory than this is read on demand
    config.data.fingerprint = ""  # filled in from the set: its size and a checksum of some of its images
    config.data.channels = 0  # filled in from the set
    config.data.num_classes = 0  # filled in from the set; 0: no labels

    config.model = ConfigDict()
    config.model.name = "sngan"  # see jaxgan/models/__init__.py
    config.model.z_dim = 128
    config.model.conditional = False  # class-conditional G and D
    config.model.conditioning = "projection"  # of D: projection, ac, multi_hinge, d2dce; see config.aux
    config.model.san = False  # D's last layer has norm 1 and learns its direction by a loss of its own (SAN)
    config.model.g_channels = ()  # widths, outermost last; (): the architecture's own at image_size
    config.model.d_channels = ()
    config.model.g_options = ""  # further fields of G's module, such as "blocks=1, group_width=8"
    config.model.d_options = ""

    config.loss = "hinge"  # minimax, ns, hinge, lsgan, wgan, rpgan
    config.d_steps = 1  # D steps for each G step
    config.top_k = 1.0  # share of its fakes that G learns from, those that D likes best (Sinha et al. 2020)
    config.top_k_schedule = "constant"
    # Added to D's objective (fm and path: to G's) with a weight; 0: off. A lazy one, of every interval-th step, counts
    # interval times as much then. R1 papers write gamma / 2 for the weight.
    config.penalty = ConfigDict()
    for name in (
        "r1",  # squared norm of D's gradient at reals (Mescheder et al. 2018)
        "r2",  # at fakes
        "gp",  # (norm - 1)^2 between reals and fakes (WGAN-GP, Gulrajani et al. 2017: 10)
        "dragan",  # around reals (Kodali et al. 2017: 10)
        "cr",  # D is to say the same of a real mirrored and shifted (Zhang et al. 2020: 10)
        "bcr",  # and of a fake (Zhao et al. 2021: 10)
        "lecam",  # squared distance of logits to the other side's average (Tseng et al. 2021)
        "fm",  # squared distance of the mean features of reals and fakes (Salimans et al. 2016)
        "path",  # path length of G, which must have styles (Karras et al. 2020: 2, every 4 steps)
    ):
        config.penalty[name] = ConfigDict(dict(weight=0.0, weight_schedule="constant", interval=1))
    config.penalty.lecam.start_kimg = 0.0  # the averages begin, and count, from here on
    config.aux = ConfigDict()  # what D says of the class where model.conditioning is not projection
    config.aux.weight_d = 1.0  # of the class loss in D's objective, on reals (ReACGAN: 0.5)
    config.aux.weight_g = 1.0  # in G's, on its fakes
    config.aux.fakes = False  # D's on its fakes too, as Odena et al. 2017 for ac; otherwise only reals teach it classes
    config.aux.temperature = 0.5  # d2dce: of the softmax of cosines (Kang et al. 2021)
    config.aux.margin_own = 0.98  # d2dce: an image and its class are close enough above this cosine
    config.aux.margin_other = 0.02  # d2dce: images of two classes are far enough apart below this one
    config.aux.embed_dim = 512  # d2dce: width of the embedding
    config.augment = ConfigDict()
    config.augment.name = ""  # of all images that D sees: see AUGMENTS in jaxgan/augment.py; "": none
    config.augment.p = 1.0  # strength; where it starts if it is adaptive
    config.augment.p_schedule = "constant"
    config.augment.target = 0.0  # of the mean sign of D's logits on reals, which p then follows (ADA: 0.6); 0: not
    config.augment.speed_kimg = 500.0  # in which an adaptive p can go from 0 to 1
    config.augment.paired = False  # a fake gets the draws of the real beside it in the batch
    config.optim_g = _optim(lr=2e-4)
    config.optim_d = _optim(lr=2e-4)
    config.ema = ConfigDict()
    config.ema.half_life_kimg = 10.0  # half-life of the generator's moving average; 0: no averaging
    config.ema.half_life_kimg_schedule = "constant"
    config.ema.rampup = 0.05  # never longer than this share of the images seen so far; 0: no ramp
    config.ema.sigma_rel = 0.0  # width of a power-function average instead (EDM2: 0.05, 0.1); 0: by half-life
    config.ema.posthoc = ()  # further widths to keep; jaxgan.load(..., sigma_rel=W) makes any other of all of them

    config.log = ConfigDict()
    config.log.every_kimg = 6.4
    config.log.tensorboard = True
    config.log.wandb = False  # needs the extra `wandb`
    config.sample = ConfigDict()
    config.sample.every_kimg = 64.0  # a grid of fixed latents from the EMA generator, and curves.png
    config.sample.grid = 8  # rows and columns; of a conditional generator each column is a class
    config.eval = ConfigDict()
    config.eval.every_kimg = 0.0  # 0: only at the end of the run
    config.eval.metrics = ()  # see jaxgan/scores.py: fd_cifar, is_cifar (cifar10), modes (stacked_digits), fid, ...
    config.eval.num_samples = 10_000  # fakes of seed 0; papers quote 50,000, the 1,000 modes 26,000
    config.eval.num_reals = 0  # of config.data.split, evenly over it; 0: all
    config.eval.inception_weights = ""  # file; "": fetched on first use
    config.eval.dinov2_weights = ""
    config.diagnose = ConfigDict()
    config.diagnose.every_kimg = 64.0  # health checks: saturation, collapse, over-fitting; 0: off
    config.checkpoint = ConfigDict()
    config.checkpoint.every_kimg = 64.0
    config.checkpoint.dir = ""  # "": <workdir>/checkpoints. Several hosts need one that all see, such as gs://...
    config.checkpoint.keep_last = 2
    config.checkpoint.keep_every_kimg = 0.0  # keep these for good; 0: none
    config.checkpoint.best_metric = ""  # also keep the best by this evaluation metric, such as eval/modes
    config.checkpoint.best_mode = "max"  # max or min
    config.checkpoint.allow_config_change = False  # resume although keys changed that define the state
    return config.lock()


def is_conditional(variant: str, file: str) -> bool:
    """Whether a variant of a config file, as in --config=FILE.py:unconditional, has labels."""
    if variant not in ("conditional", "unconditional"):
        raise ConfigError(f"{file}:{variant}: the variants are conditional and unconditional")
    return variant == "conditional"


def lookup(table: dict, name: str, what: str):
    """table[name], or an error that lists the choices; `what` is the setting's name."""
    if name not in table:
        raise ConfigError(f"{what}={name!r}: choose one of {', '.join(table)}")
    return table[name]


def flatten(config: ConfigDict, prefix: str = "") -> dict:
    """{"optim_g.lr": 2e-4, ...}: every setting under its dotted name."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The message for a key that does not exist, with the nearest names that do."""
    known = list(known)
    if inside := [k for k in known if k.startswith(f"{key}.")]:
        return f"config.{key} is a section: set one of {', '.join(f'config.{k}' for k in inside)}"
    last = {k: k.rpartition(".")[2] for k in known}
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    near += [k for k in known if last[k] in difflib.get_close_matches(key.rpartition(".")[2], set(last.values()))]
    near = ", ".join(f"config.{k}" for k in list(dict.fromkeys(near))[:4])
    return f"config.{key} does not exist" + (f"; nearest: {near}" if near else "; see jaxgan/config.py")


def to_json(config: ConfigDict) -> str:
    return json.dumps(config.to_dict(), indent=2)


def from_dict(saved: dict) -> ConfigDict:
    """A config from the dict that a checkpoint or config.json holds (JSON has lists where a config has tuples)."""
    config = default_config()
    for key, value in _renewed(flatten(ConfigDict(saved))).items():
        if key not in flatten(config):
            raise ConfigError(f"the saved config is of another version of jaxgan: {unknown_key(key, flatten(config))}")
        config.update_from_flattened_dict({key: tuple(value) if isinstance(value, list | tuple) else value})
    return config


def _renewed(flat: dict) -> dict:
    """Saved settings, those from before a schedule was a setting in words as they are now."""
    flat = dict(flat)
    for net in ("optim_g", "optim_d"):
        if (kind := flat.pop(f"{net}.schedule", None)) is not None:
            end, over, warmup = (flat.pop(f"{net}.{key}") for key in ("lr_end", "decay_kimg", "warmup_kimg"))
            words = f"warmup {warmup} kimg, " * bool(warmup) + kind
            if kind != "constant":
                words += f" to {end}" + f" in {over} kimg" * bool(over)
            flat[f"{net}.lr_schedule"] = words
    return flat


# What a resumed run may change: how long, how often, where and how fast, but not what the arrays mean.
_FREE_ON_RESUME = (
    "train_kimg", "steps_per_call", "parallel", "data.dir", "data.manual_dir", "data.cache_gb",
    "data.eval_split", "log.", "sample.", "eval.", "diagnose.", "checkpoint.",
)  # fmt: skip


def changes(config: ConfigDict, saved: ConfigDict) -> tuple[list[str], list[str]]:
    """Settings that differ from a saved run's, as "name: old -> new": those free to change, and the others."""
    from jaxgan.schedules import follows_run

    old, new = flatten(saved), flatten(config)
    over_run = any(follows_run(value) for key, value in new.items() if key.endswith("_schedule"))
    free, fixed = [], []
    for key in new:
        if new[key] != old[key]:
            # A schedule over the whole run has another past when the run gets another length.
            is_free = key.startswith(_FREE_ON_RESUME) and not (key == "train_kimg" and over_run)
            target = free if is_free else fixed
            target.append(f"config.{key}: {old[key]!r} -> {new[key]!r}")
    return free, fixed


def images_per_step(config: ConfigDict) -> int:
    """Real images that D sees in one update; kimg count these."""
    return config.batch_size * config.d_steps


def steps(config: ConfigDict, kimg: float) -> int:
    """A duration in update steps: whole calls, at least one; 0 stays 0 (never)."""
    call = images_per_step(config) * config.steps_per_call
    return max(1, round(1e3 * kimg / call)) * config.steps_per_call if kimg else 0


def options(text: str) -> dict:
    """{"blocks": 1, "group_width": 8} of "blocks=1, group_width=8"; ValueError if `text` is no list of literals."""
    try:
        call = ast.parse(f"_({text})", mode="eval").body
        if call.args:
            raise ValueError
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError):
        raise ValueError('give NAME=VALUE, separated by commas, such as "blocks=1, group_width=8"') from None
