"""Every setting there is, born here with its default and its meaning; `configs/` only change them.

Durations are counted in thousands of real images shown to the discriminator (kimg), so a run means the same at any
batch size. A cadence (`every_kimg`) of 0 is "only at the end of the run".

Beside a scalar that may change during the run stands `<name>_schedule`, in words: see jaxgan/gan/schedules.py.
"""

import ast
import dataclasses
import difflib
import inspect
import io
import json
import pathlib
import sys
import tokenize
import typing
from collections.abc import Iterable

from ml_collections import ConfigDict, config_dict

from jaxgan.core.errors import ConfigError, RunFailed, require
from jaxgan.core.files import as_path, is_remote, read_json
from jaxgan.gan.penalties import PENALTIES
from jaxgan.models import MODELS
from jaxgan.models.layers import COMMON_FIELDS, BaseDiscriminator, BaseGenerator

_REGISTERED = ("penalty.", "model.g.", "model.d.")  # sections that depend on what is registered
# Settings that name a file or a directory; "" is none.
PATHS = ("data.dir", "data.manual_dir", "eval.inception_weights", "eval.dinov2_weights", "checkpoint.dir", "init_from")


class UnknownSetting(ConfigError, AttributeError):
    """Says that there is no such setting, and which ones are near."""


class WrongType(ConfigError, TypeError):
    """Says that a setting takes a value of another type."""


# Settings of more than one type, by name. A setting has the type of its default otherwise.
TYPES = {"image_size": (int, tuple), "channels": (int, str)}


class Settings(ConfigDict):
    """A section of settings, which answers a wrong name or type in one line."""

    def get_type(self, key: str):
        kind = super().get_type(key)
        return object if kind in TYPES.get(key, ()) else kind

    def __setitem__(self, key: str, value) -> None:
        kinds, now = TYPES.get(key, ()), self._fields.get(key)
        if type(now) not in kinds:
            return super().__setitem__(key, value)
        if type(value) not in kinds:
            names = " or ".join(kind.__name__ for kind in kinds)
            raise WrongType(f"{key}={value!r}: must be of type {names}, as {now!r} is")
        self._fields[key] = value

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_"):  # what copy, pickle and notebooks ask for
                raise
            raise UnknownSetting(unknown_key(name, [*self.keys(), *flatten(self)], root="")) from None

    def __setattr__(self, name: str, value) -> None:
        try:
            super().__setattr__(name, value)
        except AttributeError:
            raise UnknownSetting(unknown_key(name, [*self.keys(), *flatten(self)], root="")) from None
        except WrongType:
            raise
        except TypeError:
            kind = type(self[name]).__name__
            raise WrongType(f"{name}={value!r}: must be of type {kind}, as {self[name]!r} is") from None


def _optim(lr: float) -> Settings:
    return Settings(
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


def _net(index: int) -> Settings:
    """Returns a section with every field that a generator (0) or discriminator (1) of `MODELS` has, all unset."""
    section = Settings(dict(channels=()))
    for name, architecture in MODELS.items():
        bases = BaseGenerator, BaseDiscriminator
        good = (
            isinstance(architecture, tuple) and len(architecture) == 2 and all(map(_is_subclass, architecture, bases))
        )
        require(
            good, f"MODELS[{name!r}]", architecture, "must be a pair of classes: a BaseGenerator, a BaseDiscriminator"
        )
        for field in dataclasses.fields(architecture[index]):
            if field.name not in COMMON_FIELDS:
                types = [t for t in (*typing.get_args(field.type), field.type) if t in (bool, int, float, str)]
                right = "a field of a net is a bool, int, float or str, as it is a setting"
                require(bool(types), f"MODELS[{name!r}], field {field.name}", field.type, right)
                section[field.name] = config_dict.placeholder(types[0])
    return section


def _is_subclass(value, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def default_config() -> Settings:
    """Returns the SNGAN recipe on CIFAR-10, locked; a config file imports this and changes a few fields."""
    config = Settings()
    config.seed = 0
    config.batch_size = 64  # global: real images in one D step, over all devices
    config.accumulate = 1  # parts of a device's share of the batch, one after the other; 0: as few as its memory takes
    # (the same step, but for what looks at several images at once, such as batch norm)
    config.remat = False  # compute activations anew in the pass back, keep products and convolutions: less memory
    config.train_kimg = 6400.0  # length of the run
    config.steps_per_dispatch = 1  # update steps in one call of the compiled program (lax.scan)
    config.parallel = "pmap"  # pmap or shard_map: the same step, equal results
    config.cpu_devices = 1  # into how many devices that share the batch a CPU is divided, at most its cores
    config.dtype = "float32"  # compute type of the nets, float32 or bfloat16; parameters are float32

    config.data = Settings()
    config.data.name = "cifar10"  # cifar10 or another tfds set, numerals, stacked_digits, images (one's own), synthetic
    config.data.split = "train"  # tfds: the split to train on
    config.data.eval_split = "test"  # tfds: held-out reals for the overfitting check; "" for none
    config.data.image_size = 32  # pixels, or height and width (64, 128); other images are cropped and resized
    config.data.crop = "center"  # what is kept of an image of another shape: its center, a part drawn once from its
    # name (random), or all of it, stretched (none)
    config.data.channels = "auto"  # auto: grey if all images are, else RGB; 1: grey, 3: RGB, 4: RGBA
    config.data.alpha = "white"  # the colour that transparent images are laid on, such as #ff8000
    config.data.flip = True  # flip each real image horizontally with probability 1/2, on the device
    config.data.dir = ""  # images: a directory, FILE.zip, FILE.tar or FILE.npz; tfds: where sets are kept
    # ("": ~/tensorflow_datasets)
    config.data.held_out = 0.02  # images: the share that is not trained on, for the overfitting check; 0: none
    config.data.manual_dir = ""  # holds the official cifar-10-binary.tar.gz, for machines without a network
    config.data.verify_checksum = True  # False: accept an archive that is not the official one
    config.data.num_classes = 10  # synthetic: as many as are wanted; 0: no labels
    config.data.skip_unreadable = False  # images: leave files out that cannot be decoded, and say how many
    config.data.cache_gb = 64.0  # disk for a set's decoded copy; one that takes more is decoded whenever it is read

    config.init_from = ""  # begin with the weights of this run or checkpoint; a run that is resumed does not read it
    config.init_parts = ("g", "d", "ema")  # which weights; the others and the optimizers begin anew
    config.freeze = Settings()  # what keeps the values of init_from, bit for bit
    config.freeze.d_layers = 0  # the first layers of D, from the image on (FreezeD, Mo et al. 2020)
    config.freeze.g_layers = 0  # the first layers of G, from z on; those of a mapping network are none of them
    config.freeze.mapping = False  # G's mapping network

    config.model = Settings()
    config.model.name = "sngan"  # see jaxgan/models/__init__.py
    config.model.z_dim = 128
    config.model.conditional = False  # class-conditional G and D
    config.model.conditioning = "projection"  # how D is conditioned: projection, ac, multi_hinge, adc, d2dce
    config.model.fake_labels = (
        "uniform"  # classes of fakes in training: uniform (drawn anew), or real (the batch's own)
    )
    config.model.san = False  # D's last layer has norm 1 and learns its direction by a loss of its own (SAN)

    # Fields of the nets' modules. None is the architecture's own value; `channels` has the widths from input to
    # output, () being the architecture's own at image_size.
    config.model.g = _net(0)
    config.model.d = _net(1)

    config.loss = "hinge"  # see LOSSES in jaxgan/gan/losses.py
    config.d_steps = 1  # D steps for each G step
    config.top_k_fraction = 1.0  # G learns from this fraction of its fakes, those that D likes best (Sinha et al. 2020)
    config.top_k_fraction_schedule = "constant"

    # A penalty is added to D's loss, or to G's, with a weight; 0: off. A lazy one is applied in every interval-th step
    # and counts interval times as much then; it may look at a fraction of the batch, such as 0.25. R1 papers write
    # gamma / 2 for the weight.
    config.penalty = Settings()
    for name in PENALTIES:  # each is described in jaxgan/gan/penalties.py
        config.penalty[name] = Settings(dict(weight=0.0, weight_schedule="constant", interval=1, fraction=1.0))
    config.class_loss = Settings()  # where model.conditioning is not projection
    config.class_loss.weight_d = 1.0  # in D's loss, on reals (ReACGAN: 0.5)
    config.class_loss.weight_g = 1.0  # in G's loss, on its fakes
    config.class_loss.weight_clear = 0.0  # ac, adc: in G's loss: of max(0, log confidence - log P(y | x))
    config.class_loss.confidence = 0.8  # the probability from which on a fake is clearly of its class, and left alone
    config.class_loss.fakes = False  # True: in D's loss on fakes too (Odena et al. 2017), as that of adc is in any case
    config.augment = Settings()
    config.augment.name = ""  # what all images pass before D sees them: see AUGMENTATIONS in gan/augment.py; "": none
    config.augment.p = 1.0  # strength; where it starts if it is adaptive
    config.augment.p_schedule = "constant"
    config.augment.target = (
        0.0  # p follows the mean sign of D's logits on reals towards this (ADA: 0.6); 0: it does not
    )
    config.augment.shared_draws = False  # a fake is augmented as the real beside it in the batch is
    config.optim_g = _optim(lr=2e-4)
    config.optim_d = _optim(lr=2e-4)
    config.ema = Settings()
    config.ema.half_life_kimg = 10.0  # half-life of the EMA generator; 0: no averaging
    config.ema.half_life_kimg_schedule = "constant"
    config.ema.rampup = 0.05  # the half-life is at most this fraction of the images seen so far; 0: no ramp
    config.ema.sigma_rel = 0.0  # relative std of a power-function EMA instead (EDM2: 0.05, 0.1); 0: by half-life
    config.ema.posthoc = ()  # further relative stds to store, for post-hoc EMA: jaxgan.load(..., sigma_rel=S)

    config.on_divergence = "stop"  # a value that is not finite ends the run; rollback: go on with other draws from
    # the last checkpoint, which is always finite
    config.max_rollbacks = 3  # so many times in the run
    config.stop = Settings()
    config.stop.after_kimg_without_improvement = (
        0.0  # end the run so long after checkpoint.best_metric was best; 0: off
    )

    config.log = Settings()
    config.log.every_kimg = 6.4
    config.log.trackers = ("tensorboard",)  # also wandb, trackio and mlflow, each with the extra of its name
    config.sample = Settings()
    config.sample.every_kimg = 64.0  # a grid of fixed latents from the EMA generator, and curves.png
    config.sample.grid = 8  # rows and columns; of a conditional generator each column is a class
    config.eval = Settings()
    config.eval.every_kimg = 0.0
    config.eval.metrics = ()  # see METRICS in jaxgan/evaluation/registry.py: fd_cifar, is_cifar, modes, fid, ...
    config.eval.num_samples = 10_000  # fakes of seed 0; papers quote 50,000, the 1,000 modes 26,000
    config.eval.num_reals = 0  # of config.data.split, evenly over it; 0: all
    config.eval.inception_weights = ""  # file; "": fetched on first use
    config.eval.dinov2_weights = ""
    config.health = Settings()
    config.health.every_kimg = 64.0  # checks for saturation, mode collapse, overfitting and divergence
    config.checkpoint = Settings()
    config.checkpoint.every_kimg = 64.0
    config.checkpoint.dir = ""  # "": <workdir>/checkpoints. Several hosts need one that all see, such as gs://...
    # Elsewhere than in the workdir, <checkpoint.dir>/run/ also holds the log, samples and settings of the run.
    config.checkpoint.keep_last = 2
    config.checkpoint.keep_every_kimg = 0.0  # keep these for good; 0: none
    config.checkpoint.best_metric = ""  # also keep the best by this evaluation metric, such as eval/fid
    config.checkpoint.allow_config_change = False  # resume although keys changed that define the state
    return config.lock()


def report_on_cifar(config: ConfigDict, every_kimg: float) -> None:
    """Sets how often a CIFAR-10 config samples, scores, checks its health and saves, and its two offline metrics."""
    _report(config, every_kimg, "fd_cifar", "is_cifar")


def report_on_images(config: ConfigDict, every_kimg: float) -> None:
    """Sets the same for a config for images of one's own, with a metric that takes no network."""
    _report(config, every_kimg, "swd")
    config.eval.num_samples = 2000
    config.log.every_kimg = 5.12


def _report(config: ConfigDict, every_kimg: float, *metrics: str) -> None:
    for section in (config.sample, config.eval, config.health, config.checkpoint):
        section.every_kimg = every_kimg
    config.eval.metrics = metrics
    config.checkpoint.best_metric = f"eval/{metrics[0]}"


def is_conditional(variant: str, file: str) -> bool:
    """Returns whether a variant of a config file, as in --config=FILE.py:unconditional, has labels."""
    if variant not in ("conditional", "unconditional"):
        raise ConfigError(f"{file}:{variant}: the variants are conditional and unconditional")
    return variant == "conditional"


def flatten(config: ConfigDict, prefix: str = "") -> dict:
    """Returns every setting under its dotted name, {"optim_g.lr": 2e-4, ...}."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def meanings() -> dict[str, str]:
    """Returns what the comments in this file say of settings, {"optim_g.lr": "learning rate", ...}.

    A comment stands behind the setting, or begins there and goes on in the lines below it. A penalty's weight means
    what the docstring of the penalty says that it returns.
    """
    source = inspect.getsource(sys.modules[__name__])
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.removeprefix("#").strip()
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    found = {}
    for name, penalty in PENALTIES.items():
        first = (inspect.getdoc(penalty.fn) or "").partition("\n")[0]
        found[f"penalty.{name}.weight"] = first.removeprefix("Returns ")
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("config."):
            names = [ast.unparse(target).removeprefix("config.") for target in node.targets]
        elif isinstance(node, ast.keyword):  # of _optim
            names = [f"{section}.{node.arg}" for section in ("optim_g", "optim_d")]
        lines = [line for line in range(node.lineno, node.end_lineno + 1) if line in comments] if names else []
        if lines:
            last = node.end_lineno + 1
            while last in alone:
                lines.append(last)
                last += 1
            found |= dict.fromkeys(names, " ".join(comments[line] for line in lines))
    known = flatten(default_config())
    return {name: meaning for name, meaning in found.items() if name in known and meaning}


def require_settings(config, name: str = "config") -> None:
    """Raises a ConfigError that begins with `name` unless `config` has all settings, nets' and penalties' aside."""
    right = 'give a ConfigDict, such as jaxgan.config("digits")'
    require(isinstance(config, ConfigDict), name, config, right)
    flat = flatten(config)
    if missing := [key for key in flatten(default_config()) if key not in flat and not key.startswith(_REGISTERED)]:
        raise ConfigError(f"{name} lacks {missing[0]} and {len(missing) - 1} more; begin with jaxgan.default_config()")


def make_paths_absolute(config: ConfigDict) -> None:
    """Changes every path in `config` to one that names the same place from any directory, now and when it is resumed.

    An address such as https:// or gs:// stays as it is: a data set of one's own may have any.
    """
    flat = flatten(config)
    paths = {key: flat[key] for key in PATHS if flat[key] and not is_remote(flat[key])}
    config.update_from_flattened_dict({key: str(as_path(path, f"config.{key}")) for key, path in paths.items()})


def unknown_key(key: str, known: Iterable[str], root: str = "config.") -> str:
    """Returns the message for a key that does not exist below `root`, with the nearest names that do."""
    known = list(known)
    if inside := [k for k in known if k.startswith(f"{key}.")]:
        return f"{root}{key} is a section: set one of {', '.join(f'{root}{k}' for k in inside)}"
    last = {k: k.rpartition(".")[2] for k in known}
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    near += [k for k in known if last[k] in difflib.get_close_matches(key.rpartition(".")[2], set(last.values()))]
    near = ", ".join(f"{root}{k}" for k in list(dict.fromkeys(near))[:4])
    return f"{root}{key} does not exist" + (f"; nearest: {near}" if near else "; see jaxgan/settings.py")


def to_json(config: ConfigDict) -> str:
    """Returns a config as JSON, for people too."""
    return json.dumps(config.to_dict(), indent=2)


def from_dict(saved: dict) -> Settings:
    """Returns the config of a checkpoint's or config.json's dict (JSON has lists where a config has tuples).

    Settings of penalties and nets that are not registered here stay: who only samples does not need the former, and
    whoever does says so.
    """
    config = default_config()
    known = flatten(config)
    for key, value in flatten(ConfigDict(saved)).items():
        value = tuple(value) if isinstance(value, list | tuple) else value
        if key in known:
            config.update_from_flattened_dict({key: value})
            continue
        if not key.startswith(_REGISTERED):
            raise ConfigError(f"the saved config is of another version of jaxgan: {unknown_key(key, known)}")
        for part in reversed(key.split(".")):
            value = {part: value}
        with config.unlocked():
            config.update(value)
    return config


def read(file: pathlib.Path) -> Settings:
    """Returns the config in a run's config.json; raises RunFailed in one line if it is damaged, or of an export."""
    advice = "give --config too, and it is written anew"
    saved = read_json(file, advice=advice)
    if isinstance(saved, dict) and isinstance(saved.get("config"), dict):
        raise RunFailed(f"{file.parent}: is an export, not a run; name the run that it was made from")
    try:
        return from_dict(saved)
    except (ValueError, TypeError, AttributeError) as error:  # other settings than there are, or none
        raise RunFailed(f"{file}: {error}; {advice}") from None


def images_per_step(config: ConfigDict) -> int:
    """Returns how many real images D sees in one update; kimg count these."""
    return config.batch_size * config.d_steps


def steps(config: ConfigDict, kimg: float) -> int:
    """Returns a duration in update steps: whole dispatches, at least one; 0 stays 0 (only at the end of the run)."""
    dispatch = images_per_step(config) * config.steps_per_dispatch
    return max(1, round(1e3 * kimg / dispatch)) * config.steps_per_dispatch if kimg else 0
