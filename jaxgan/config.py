"""Every setting there is, born here with its default and its meaning; `configs/` only change them.

Durations are counted in thousands of real images shown to the discriminator (kimg), so a run means the
same at any batch size. `check` is where every divisibility and every unusable combination is caught,
before anything is written.
"""

import difflib
import importlib.util
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
            lr=lr,  # peak learning rate
            b1=0.0,  # adam, adamw: decay of the first moment
            b2=0.9,  # adam, adamw: decay of the second moment; rmsprop: its decay
            eps=1e-8,
            momentum=0.0,  # rmsprop, sgd
            weight_decay=0.0,  # adamw
            schedule="constant",  # constant, linear, cosine: from lr to lr_end over decay_kimg
            lr_end=0.0,
            decay_kimg=0.0,  # 0: the whole run, train_kimg
            warmup_kimg=0.0,  # linear from 0 to lr first
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
    config.model.g_channels = ()  # widths, outermost last; (): the architecture's own at image_size
    config.model.d_channels = ()

    config.loss = "hinge"  # minimax, ns, hinge, lsgan, wgan, rpgan
    config.d_steps = 1  # D steps for each G step
    config.penalty = ConfigDict()
    for name in ("r1", "r2", "gp"):
        # weight of E[|grad|^2] (r1 on reals, r2 on fakes) or of E[(|grad| - 1)^2] (gp, interpolates);
        # R1 papers write gamma / 2. 0: off. Every interval-th D step, times interval (lazy, same strength).
        config.penalty[name] = ConfigDict(dict(weight=0.0, interval=1))
    config.optim_g = _optim(lr=2e-4)
    config.optim_d = _optim(lr=2e-4)
    config.ema = ConfigDict()
    config.ema.half_life_kimg = 10.0  # half-life of the generator's moving average; 0: no averaging
    config.ema.rampup = 0.05  # never longer than this share of the images seen so far; 0: no ramp

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
    for key, value in flatten(ConfigDict(saved)).items():
        if key not in flatten(config):
            raise ConfigError(f"the saved config is of another version of jaxgan: {unknown_key(key, flatten(config))}")
        config.update_from_flattened_dict({key: tuple(value) if isinstance(value, list | tuple) else value})
    return config


# What a resumed run may change: how long, how often, where and how fast, but not what the arrays mean.
_FREE_ON_RESUME = (
    "train_kimg", "steps_per_call", "parallel", "data.dir", "data.manual_dir", "data.cache_gb",
    "data.eval_split", "log.", "sample.", "eval.", "diagnose.", "checkpoint.",
)  # fmt: skip


def changes(config: ConfigDict, saved: ConfigDict) -> tuple[list[str], list[str]]:
    """Settings that differ from a saved run's, as "name: old -> new": those free to change, and the others."""
    old, new = flatten(saved), flatten(config)
    over_run = any(o.schedule != "constant" and not o.decay_kimg for o in (config.optim_g, config.optim_d))
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


def check(config: ConfigDict, num_devices: int) -> None:
    """Raise a ConfigError for the first setting that cannot work, on this many devices."""
    from jaxgan.losses import LOSSES
    from jaxgan.models import MODELS
    from jaxgan.optim import OPTIMIZERS, SCHEDULES
    from jaxgan.scores import METRICS

    flat = flatten(config)

    def require(good: bool, key: str, right: str):
        if not good:
            raise ConfigError(f"config.{key}={flat[key]!r}: {right}")

    def one_of(key: str, choices: Iterable[str]):
        require(flat[key] in choices, key, f"choose one of {', '.join(choices)}")

    one_of("parallel", ("pmap", "shard_map"))
    one_of("dtype", ("float32", "bfloat16"))
    one_of("model.name", MODELS)
    one_of("loss", LOSSES)
    one_of("checkpoint.best_mode", ("max", "min"))
    positive = (
        "batch_size",
        "train_kimg",
        "steps_per_call",
        "d_steps",
        "model.z_dim",
        "sample.grid",
    )
    for key in (*positive, "checkpoint.keep_last", "log.every_kimg"):
        require(flat[key] > 0, key, "must be above 0")
    require(config.eval.num_samples >= 2, "eval.num_samples", "must be 2 or above")
    require(config.eval.num_reals == 0 or config.eval.num_reals >= 2, "eval.num_reals", "must be 0 (all) or 2 or above")
    for key, value in flat.items():
        if isinstance(value, float):
            require(0 <= value < float("inf"), key, "must be a finite number, 0 or above")
    require(0 <= config.seed < 2**31, "seed", "must be in 0 .. 2147483647")
    require(config.batch_size % num_devices == 0, "batch_size", f"must be a multiple of the {num_devices} devices")

    model = MODELS[config.model.name]
    sizes = sorted(model.G_WIDTHS)
    named = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 8 else ", ".join(map(str, sizes))
    require(config.data.image_size in sizes, "data.image_size", f"{config.model.name} works at {named}")
    for net, widths in (("g", model.G_WIDTHS), ("d", model.D_WIDTHS)):
        default = widths[config.data.image_size]
        given = flat[f"model.{net}_channels"]
        right = f"{config.model.name} at {config.data.image_size} pixels takes {len(default)} widths, such as {default}"
        good = not given or (len(given) == len(default) and all(isinstance(w, int) and w > 0 for w in given))
        require(good, f"model.{net}_channels", right)

    for net in ("optim_g", "optim_d"):
        one_of(f"{net}.name", OPTIMIZERS)
        one_of(f"{net}.schedule", SCHEDULES)
        for beta in ("b1", "b2", "momentum"):
            require(flat[f"{net}.{beta}"] < 1, f"{net}.{beta}", "must be in [0, 1)")
        for key, users in (("weight_decay", ("adamw",)), ("momentum", ("rmsprop", "sgd"))):
            used = config[net].name in users or not config[net][key]
            require(used, f"{net}.{key}", f"{config[net].name} has none; config.{net}.name={users[-1]!r} has")
    for name in config.penalty:
        require(config.penalty[name].interval >= 1, f"penalty.{name}.interval", "must be 1 or above")
    log_d_steps = steps(config, config.log.every_kimg) * config.d_steps
    for name, penalty in config.penalty.items():
        # Otherwise most log lines would fall on steps without the penalty.
        require(
            not penalty.weight or log_d_steps % penalty.interval == 0,
            f"penalty.{name}.interval",
            f"must divide the {log_d_steps} D steps between two log lines; config.log.every_kimg="
            f"{penalty.interval * images_per_step(config) * config.steps_per_call / 1e3:g} or a multiple would do",
        )

    wandb = importlib.util.find_spec("wandb")
    require(wandb is not None or not config.log.wandb, "log.wandb", "needs pip install 'jaxgan[wandb]'")
    for name in config.eval.metrics:
        require(name in METRICS, "eval.metrics", f"choose from {', '.join(METRICS)}")
        metric = METRICS[name]
        fits = metric.dataset in ("", config.data.name)
        require(fits, "eval.metrics", f"{name} is defined for config.data.name={metric.dataset!r} only")
        labelled = config.model.conditional or not metric.labels
        require(labelled, "eval.metrics", f"{name} takes the classes of the samples: set config.model.conditional=True")
        require(config.eval.num_samples >= metric.least, "eval.num_samples", f"{name} takes at least {metric.least}")
    require(config.data.name != "folder" or bool(config.data.dir), "data.dir", "name the directory of images")
    if best := config.checkpoint.best_metric:
        known = [f"eval/{k}" for name in config.eval.metrics for k in METRICS[name].names]
        require(best in known, "checkpoint.best_metric", f"is not evaluated; there is {', '.join(known) or 'none'}")
