"""Where every divisibility and every unusable combination of settings is caught, before anything is written."""

import contextlib
import dataclasses
import functools
import importlib.util
import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from jaxgan.core.errors import ConfigError
from jaxgan.evaluation.evaluator import METRICS
from jaxgan.gan import schedules
from jaxgan.gan.augment import AUGMENTS
from jaxgan.gan.losses import LOSSES
from jaxgan.gan.optim import OPTIMIZERS
from jaxgan.gan.state import make_modules
from jaxgan.models import MODELS
from jaxgan.models.layers import Critic
from jaxgan.settings import flatten, images_per_step, options, steps


def _check_options(text: str, module: type) -> None:
    """ValueError unless `text` gives values, of the right type, to fields that this module has beyond the common."""
    common = {f.name for f in dataclasses.fields(Critic)}
    defaults = {f.name: f.default for f in dataclasses.fields(module) if f.name not in common}
    known = ", ".join(f"{name}={default!r}" for name, default in defaults.items())
    known = f"the fields there are: {known}" if known else "there are none for this architecture"
    for name, value in options(text).items():
        if name not in defaults:
            raise ValueError(f"no field {name}; {known}")
        default = defaults[name]
        kinds = {float: (float, int), type(None): (int, type(None))}.get(type(default), (type(default),))
        if type(value) not in kinds:
            raise ValueError(f"{name}={value!r} is of another type than the default; {known}")


@functools.lru_cache(maxsize=256)
def _try_nets(g, d, z_dim: int, batch_size: int) -> None:
    """Build both nets in the abstract, once: what they raise is for the user to read."""

    def initialise(key):
        labels, keys = jnp.zeros(batch_size, jnp.int32), jax.random.split(key, batch_size)
        for net, shape in ((g, (z_dim,)), (d, (d.image_size, d.image_size, d.image_channels))):
            net.init(key, jnp.zeros((batch_size, *shape)), labels, train=False, keys=keys)

    jax.eval_shape(initialise, jax.random.key(0))


class _Checks:
    """The checks of a config, by section; each raises a ConfigError for the first setting that cannot work."""

    def __init__(self, config):
        self.config, self.flat = config, flatten(config)

    def require(self, good: bool, key: str, right: str) -> None:
        if not good:
            raise ConfigError(f"config.{key}={self.flat[key]!r}: {right}")

    def one_of(self, key: str, choices: Iterable[str]) -> None:
        self.require(self.flat[key] in choices, key, f"choose one of {', '.join(choices)}")

    @contextlib.contextmanager
    def of_setting(self, key: str):
        """What is raised inside is the fault of this setting."""
        try:
            yield
        except ValueError as error:
            raise ConfigError(f"config.{key}={self.flat[key]!r}: {error}") from error

    def choices(self) -> None:
        """Names from a list."""
        self.one_of("parallel", ("pmap", "shard_map"))
        self.one_of("dtype", ("float32", "bfloat16"))
        self.one_of("model.name", MODELS)
        self.one_of("loss", LOSSES)
        self.one_of("checkpoint.best_mode", ("max", "min"))

    def numbers(self, num_devices: int) -> None:
        """Ranges of what stands for itself."""
        config = self.config
        positive = (
            "batch_size",
            "train_kimg",
            "steps_per_call",
            "d_steps",
            "model.z_dim",
            "aux.embed_dim",
            "aux.temperature",
            "sample.grid",
        )
        for key in (*positive, "checkpoint.keep_last", "log.every_kimg"):
            self.require(self.flat[key] > 0, key, "must be above 0")
        self.require(config.eval.num_samples >= 2, "eval.num_samples", "must be 2 or above")
        self.require(
            config.eval.num_reals == 0 or config.eval.num_reals >= 2, "eval.num_reals", "must be 0 (all) or 2 or above"
        )
        for key, value in self.flat.items():
            if isinstance(value, float):
                self.require(0 <= value < float("inf"), key, "must be a finite number, 0 or above")
        self.require(0 <= config.seed < 2**31, "seed", "must be in 0 .. 2147483647")
        self.require(
            config.batch_size % num_devices == 0, "batch_size", f"must be a multiple of the {num_devices} devices"
        )

    def nets(self) -> None:
        """An architecture and what fits it; both nets are built in the abstract."""
        config = self.config
        model = MODELS[config.model.name]
        sizes = sorted(model.G_WIDTHS)
        named = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 8 else ", ".join(map(str, sizes))
        self.require(config.data.image_size in sizes, "data.image_size", f"{config.model.name} works at {named}")
        for net, widths in (("g", model.G_WIDTHS), ("d", model.D_WIDTHS)):
            default = widths[config.data.image_size]
            given = self.flat[f"model.{net}_channels"]
            right = (
                f"{config.model.name} at {config.data.image_size} pixels takes {len(default)} widths, such as {default}"
            )
            good = not given or (len(given) == len(default) and all(isinstance(w, int) and w > 0 for w in given))
            self.require(good, f"model.{net}_channels", right)
        conditionings = model.Discriminator.conditionings
        right = f"{config.model.name} has {', '.join(conditionings)}"
        self.require(config.model.conditioning in conditionings, "model.conditioning", right)
        right = "is by classes; set config.model.conditional=True"
        self.require(config.model.conditional or config.model.conditioning == "projection", "model.conditioning", right)
        for key in ("aux.margin_own", "aux.margin_other"):
            self.require(self.flat[key] <= 1, key, "must be at most 1, a cosine")
        for net, module in (("g", model.Generator), ("d", model.Discriminator)):
            with self.of_setting(f"model.{net}_options"):
                _check_options(self.flat[f"model.{net}_options"], module)
        with self.of_setting("model.name"):
            _try_nets(*make_modules(config), config.model.z_dim, config.batch_size)

    def schedules(self) -> None:
        """Everything that may change during the run."""
        config = self.config
        for key in self.flat:
            if key.endswith("_schedule"):
                name = key.removesuffix("_schedule")
                with self.of_setting(key):
                    schedule = schedules.parse(self.flat[name], self.flat[key], config.train_kimg)
                limit = 1.0 if name in ("augment.p", "top_k") else math.inf
                self.require(
                    max(schedule.values) <= limit,
                    key if self.flat[name] <= limit else name,
                    f"must be at most {limit:g}",
                )
        for name in ("g", "d"):
            key, optimizer = f"optim_{name}.b2_schedule", self.flat[f"optim_{name}.name"]
            schedule = schedules.of(config[f"optim_{name}"], "b2", config.train_kimg)
            self.require(max(schedule.values) < 1, key, "must be in [0, 1)")
            self.require(optimizer != "sgd" or not schedule.varies, key, f"{optimizer} has no b2")
        self.require(min(schedules.of(config, "top_k", config.train_kimg).values) > 0, "top_k", "must be above 0")

    def augmentation(self) -> None:
        """What D sees, and what an adaptive strength needs."""
        config = self.config
        self.one_of("augment.name", ("", *AUGMENTS))
        self.require(config.augment.speed_kimg > 0, "augment.speed_kimg", "must be above 0")
        self.require(config.augment.target < 1, "augment.target", "must be in [0, 1)")
        if config.augment.target:
            self.require(
                bool(config.augment.name), "augment.name", "is none, and config.augment.target wants one that adapts"
            )
            right = f"p follows the sign of logits, of which {config.loss} compares only differences"
            self.require(LOSSES[config.loss].border is not None, "augment.target", f"{right}; set it to 0")
            right = "an adaptive p has none; set config.augment.target=0.0"
            self.require(config.augment.p_schedule == "constant", "augment.p_schedule", right)

    def averages(self) -> None:
        """The averages of G."""
        config = self.config
        self.require(
            config.ema.sigma_rel <= 12**-0.5, "ema.sigma_rel", "must be at most 0.2887, the width of a plain mean"
        )
        if config.ema.posthoc:
            self.require(config.ema.sigma_rel > 0, "ema.sigma_rel", "config.ema.posthoc wants a power-function average")
            widths = {f"{config.ema.sigma_rel:g}", *(f"{width:g}" for width in config.ema.posthoc)}
            distinct = len(widths) == 1 + len(config.ema.posthoc)
            possible = all(0 < width <= 12**-0.5 for width in config.ema.posthoc)
            self.require(
                distinct and possible, "ema.posthoc", "give widths in (0, 0.2887], each once and none ema.sigma_rel"
            )

    def optimizers(self) -> None:
        """What an optimizer has."""
        config = self.config
        for net in ("optim_g", "optim_d"):
            self.one_of(f"{net}.name", OPTIMIZERS)
            for beta in ("b1", "b2", "momentum"):
                self.require(self.flat[f"{net}.{beta}"] < 1, f"{net}.{beta}", "must be in [0, 1)")
            for key, users in (("weight_decay", ("adamw",)), ("momentum", ("rmsprop", "sgd"))):
                used = config[net].name in users or not config[net][key]
                self.require(used, f"{net}.{key}", f"{config[net].name} has none; config.{net}.name={users[-1]!r} has")

    def penalties(self) -> None:
        """Penalties, and when they are logged."""
        config = self.config
        model = MODELS[config.model.name]
        has_styles = hasattr(model.Generator, "mapping") and hasattr(model.Generator, "synthesis")
        penalised = schedules.of(config.penalty.path, "weight", config.train_kimg)
        self.require(
            has_styles or not penalised, "penalty.path.weight", f"{config.model.name} has no styles; stylegan2 has"
        )
        for name in config.penalty:
            self.require(config.penalty[name].interval >= 1, f"penalty.{name}.interval", "must be 1 or above")
        for name, penalty in config.penalty.items():
            # Otherwise most log lines would fall on steps without the penalty.
            net, per_step = ("G", 1) if name in ("fm", "path") else ("D", config.d_steps)
            between = steps(config, config.log.every_kimg) * per_step
            self.require(
                not schedules.of(penalty, "weight", config.train_kimg) or between % penalty.interval == 0,
                f"penalty.{name}.interval",
                f"must divide the {between} {net} steps between two log lines; config.log.every_kimg="
                f"{penalty.interval * images_per_step(config) * config.steps_per_call / 1e3:g} or a multiple would do",
            )

    def scores(self) -> None:
        """What is evaluated, from which data, and where it goes."""
        config = self.config
        wandb = importlib.util.find_spec("wandb")
        self.require(wandb is not None or not config.log.wandb, "log.wandb", "needs pip install 'jaxgan[wandb]'")
        for name in config.eval.metrics:
            self.require(name in METRICS, "eval.metrics", f"choose from {', '.join(METRICS)}")
            metric = METRICS[name]
            fits = metric.dataset in ("", config.data.name)
            self.require(fits, "eval.metrics", f"{name} is defined for config.data.name={metric.dataset!r} only")
            labelled = config.model.conditional or not metric.labels
            self.require(
                labelled, "eval.metrics", f"{name} takes the classes of the samples: set config.model.conditional=True"
            )
            self.require(
                config.eval.num_samples >= metric.least, "eval.num_samples", f"{name} takes at least {metric.least}"
            )
        self.require(config.data.name != "folder" or bool(config.data.dir), "data.dir", "name the directory of images")
        if best := config.checkpoint.best_metric:
            known = [f"eval/{k}" for name in config.eval.metrics for k in METRICS[name].names]
            self.require(
                best in known, "checkpoint.best_metric", f"is not evaluated; there is {', '.join(known) or 'none'}"
            )


def check(config, num_devices: int) -> None:
    """Raise a ConfigError for the first setting that cannot work, on this many devices."""
    checks = _Checks(config)
    checks.choices()
    checks.numbers(num_devices)
    checks.nets()
    checks.schedules()
    checks.augmentation()
    checks.averages()
    checks.optimizers()
    checks.penalties()
    checks.scores()
