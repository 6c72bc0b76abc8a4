"""A recipe: everything that training needs to know of a run, as plain values; and how a config becomes one."""

import dataclasses
import math
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxgan.core.errors import ConfigError, is_finite, lookup, require, require_choice, require_function, require_whole
from jaxgan.core.shapes import as_image_size, height_width
from jaxgan.data import DataSpec
from jaxgan.gan.augment import AUGMENTATIONS, Augmentation
from jaxgan.gan.ema import ExponentialEma, PowerEma, power_exponent
from jaxgan.gan.losses import CLASS_LOSSES, LOSSES, ClassLoss, Loss
from jaxgan.gan.nets import check_net, frozen_parameters, input_shape, naming_setting
from jaxgan.gan.optim import OPTIMIZERS, Optimizer, as_optimizer
from jaxgan.gan.penalties import PENALTIES, Penalty, require_fraction
from jaxgan.gan.schedules import Schedule, as_schedule, parse_schedule, require_range
from jaxgan.models import MODELS
from jaxgan.models.layers import COMMON_FIELDS, BaseDiscriminator, BaseGenerator

FAKE_LABELS = ("uniform", "real")

# What each field of a recipe has to be, as a type and in words; those that are missing here are whole numbers or names.
_NAMED_PENALTIES = Mapping, '{"name": Penalty(...), ...}'
_KINDS = {
    "generator": (BaseGenerator, "a BaseGenerator"),
    "discriminator": (BaseDiscriminator, "a BaseDiscriminator"),
    "optimizer_g": (Optimizer, "an Optimizer, or one of optax's"),
    "optimizer_d": (Optimizer, "an Optimizer, or one of optax's"),
    "loss": (Loss, "a Loss"),
    "penalties_d": _NAMED_PENALTIES,
    "penalties_g": _NAMED_PENALTIES,
    "class_loss": (ClassLoss | None, "a ClassLoss, or None"),
    "augment": (Augmentation | None, "an Augmentation, or None"),
    "ema": (ExponentialEma | PowerEma, "an ExponentialEma or a PowerEma"),
    "posthoc_ema": (Mapping, '{"name": PowerEma(...), ...}'),
    "top_k_fraction": (Schedule | None, "a Schedule, a number or None"),
    "flip": (bool, "True or False"),
    "remat": (bool, "True or False"),
}


def _static(**options):
    return flax.struct.field(pytree_node=False, **options)


@flax.struct.dataclass
class Recipe:
    """Everything that training needs to know of a run. There is no config in it, and no name to look up.

    It is a pytree: its leaves are the scalars that one sweeps (learning rates, penalty weights, half-lives and the
    other numbers of schedules), so they are arguments of a compiled step and may be vmapped over; all else is static.
    `recipe.replace(...)` gives a changed one.

    Attributes:
      generator, discriminator: modules as `jaxgan.models` describes them.
      optimizer_g, optimizer_d: an `Optimizer`, or one of optax's own.
      z_dim: width of a latent.
      batch_size: real images in one D step, over all devices.
      loss: the adversarial loss.
      d_steps: D steps for each G step.
      penalties_d, penalties_g: what is added to D's and to G's loss, by name.
      class_loss: a loss between D's outputs for the classes and the labels; None: D is conditioned by projection.
      augment: the augmentation of reals and fakes before D sees them.
      ema: G's moving average.
      posthoc_ema: further averages to store, by name.
      top_k_fraction: schedule of the fraction of its fakes that G learns from, those that D likes best; None: all.
      flip: whether each real image is flipped horizontally with probability 1/2.
      accumulate: into how many parts a device's share of the batch is split, to take one after the other.
      remat: whether a pass back computes activations anew and finds only products and convolutions kept: less memory.
      fake_labels: classes of the fakes, "uniform": drawn anew, or "real": those of the reals beside them.
      axis_name: the mapped axis of the devices that share a batch; `parallelize` sets it. None: there is one device.
    """

    generator: BaseGenerator = _static()
    discriminator: BaseDiscriminator = _static()
    optimizer_g: Optimizer | optax.GradientTransformation
    optimizer_d: Optimizer | optax.GradientTransformation
    z_dim: int = _static()
    batch_size: int = _static()
    loss: Loss = _static(default=LOSSES["ns"])
    d_steps: int = _static(default=1)
    penalties_d: Mapping[str, Penalty] = flax.struct.field(default_factory=dict)
    penalties_g: Mapping[str, Penalty] = flax.struct.field(default_factory=dict)
    class_loss: ClassLoss | None = None
    augment: Augmentation | None = None
    ema: ExponentialEma | PowerEma = ExponentialEma(Schedule(10_000.0), rampup=0.05)
    posthoc_ema: Mapping[str, PowerEma] = flax.struct.field(default_factory=dict)
    top_k_fraction: Schedule | None = None
    flip: bool = _static(default=False)
    accumulate: int = _static(default=1)
    remat: bool = _static(default=False)
    fake_labels: str = _static(default="uniform")
    axis_name: str | None = _static(default=None)

    def __post_init__(self):
        for name in ("optimizer_g", "optimizer_d"):
            if isinstance(optimizer := getattr(self, name), optax.GradientTransformation):
                object.__setattr__(self, name, as_optimizer(optimizer))
        object.__setattr__(self, "top_k_fraction", as_schedule(self.top_k_fraction))
        for name, (kind, right) in _KINDS.items():
            value = getattr(self, name)
            require(isinstance(value, kind), f"Recipe.{name}", value, f"give {right}")
        for side in ("d", "g"):
            right = "give a function of (logits_real, logits_fake)"
            require_function(f"Loss.{side}", getattr(self.loss, side), 2, right)
        threshold, right = self.loss.decision_threshold, "give a finite number, or None"
        require(threshold is None or is_finite(threshold), "Loss.decision_threshold", threshold, right)
        for name in ("z_dim", "batch_size", "d_steps", "accumulate"):
            require_whole(f"Recipe.{name}", getattr(self, name), 1)
        require(self.fake_labels in FAKE_LABELS, "Recipe.fake_labels", self.fake_labels, "choose uniform or real")
        for name in ("image_size", "image_channels", "num_classes"):
            g, d = getattr(self.generator, name), getattr(self.discriminator, name)
            require(g == d, f"Recipe.generator.{name}", g, f"must be that of the discriminator, {d}")
        for net, penalties in (("d", self.penalties_d), ("g", self.penalties_g)):
            for key, penalty in penalties.items():
                right = f"give a Penalty with net={net!r}"
                good = isinstance(penalty, Penalty) and penalty.net == net
                require(good, f"Recipe.penalties_{net}[{key!r}]", penalty, right)
                penalty.require_discriminator(self.discriminator, f"Recipe.penalties_{net}[{key!r}]")
        for key in self.penalties_g:
            right = "penalties_d has this name too; each penalty has one of its own"
            require(key not in self.penalties_d, "Recipe.penalties_g", key, right)
        right = "names the running scalars of the augmentation; call the penalty otherwise"
        require("augment" not in {**self.penalties_d, **self.penalties_g}, "Recipe.penalties", "augment", right)
        for name, average in self.posthoc_ema.items():
            require(isinstance(average, PowerEma), f"Recipe.posthoc_ema[{name!r}]", average, "give a PowerEma")
        if self.top_k_fraction is not None:
            require_range("Recipe.top_k_fraction", self.top_k_fraction, most=1.0, above=True)

    @property
    def images_per_step(self) -> int:
        """Real images that D sees in one update; kimg count these."""
        return self.batch_size * self.d_steps

    def images_at_once(self, num_devices: int) -> int:
        """Returns how many images each of these devices takes at a time, whatever a run does with them."""
        return self.batch_size // num_devices // self.accumulate

    @property
    def g_needs_reals(self) -> bool:
        """Whether the step of G looks at real images."""
        looking = (penalty.needs_reals or "real" in penalty.gradients for penalty in self.penalties_g.values())
        return self.loss.relativistic or any(looking)

    @property
    def real_batches_per_step(self) -> int:
        """Batches of reals that one update takes: one a D step, and one for G where it looks at reals."""
        return self.d_steps + self.g_needs_reals

    @property
    def num_classes(self) -> int:
        """0: unconditional."""
        return self.generator.num_classes

    @property
    def conditional(self) -> bool:
        return self.num_classes > 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.generator.image_shape

    @property
    def running(self) -> dict[str, Mapping[str, float]]:
        """Scalars that follow the run, as they begin, by what they belong to."""
        penalties = {name: penalty.running for name, penalty in {**self.penalties_d, **self.penalties_g}.items()}
        return penalties | ({"augment": self.augment.running} if self.augment is not None else {})

    def on_axis(self, axis_name: str | None) -> "Recipe":
        """Returns this recipe for devices that share a batch along a mapped axis of this name."""
        nets = {name: getattr(self, name).clone(axis_name=axis_name) for name in ("generator", "discriminator")}
        return self.replace(axis_name=axis_name, **nets)


def recipe_from_config(config: ConfigDict, data: DataSpec | None = None) -> Recipe:
    """Returns the recipe that a config describes.

    Args:
      config: a ConfigDict as `default_config` makes it; nothing below this function knows one.
      data: facts about the data set; None, before it is there: images are of config.data.image_size with
        config.data.channels (auto: 3) and, if G and D are conditional, 10 classes.

    Raises:
      ConfigError: for the first setting that cannot work.
    """
    right = 'give a config, such as jaxgan.config("digits")'
    require(hasattr(config, "model"), "config", type(config), right)
    require(isinstance(data, DataSpec | None), "data", type(data), "give DataSpec.from_dataset(dataset)")
    _require_set(config)
    require_whole("config.accumulate", config.accumulate)
    for key in ("batch_size", "d_steps", "train_kimg"):
        require(config[key] > 0, f"config.{key}", config[key], "must be above 0")
    require(config.model.z_dim > 0, "config.model.z_dim", config.model.z_dim, "must be above 0")
    generator, discriminator = make_nets(config, data)
    loss = lookup(LOSSES, config.loss, "config.loss")
    require(isinstance(loss, Loss), f"LOSSES[{config.loss!r}]", loss, "give a Loss")
    penalties = _penalties(config, generator)
    for name, penalty in penalties.items():
        penalty.require_discriminator(discriminator, f"config.penalty.{name}")
    top_k = _schedule(config, "top_k_fraction", config, limit=1.0)
    key = "top_k_fraction" if config.top_k_fraction <= 0 else "top_k_fraction_schedule"
    require(min(top_k.values) > 0, f"config.{key}", config[key], "must stay above 0")
    fake_labels = config.model.fake_labels
    require(fake_labels in FAKE_LABELS, "config.model.fake_labels", fake_labels, "choose uniform or real")
    return Recipe(
        generator=generator,
        discriminator=discriminator,
        optimizer_g=_optimizer(config, "optim_g").replace(frozen=frozen_parameters(config, "g", generator)),
        optimizer_d=_optimizer(config, "optim_d").replace(frozen=frozen_parameters(config, "d", discriminator)),
        z_dim=config.model.z_dim,
        batch_size=config.batch_size,
        loss=loss,
        d_steps=config.d_steps,
        penalties_d={name: penalty for name, penalty in penalties.items() if penalty.net == "d"},
        penalties_g={name: penalty for name, penalty in penalties.items() if penalty.net == "g"},
        class_loss=_class_loss(config),
        augment=_augmentation(config, loss),
        ema=_ema(config),
        posthoc_ema=_posthoc_ema(config),
        top_k_fraction=top_k if top_k.varies or top_k.start < 1 else None,
        flip=config.data.flip,
        accumulate=config.accumulate or 1,  # 0: `train` chooses by the memory of the devices
        remat=config.remat,
        fake_labels=fake_labels,
    )


def _require_set(section, path: str = "config") -> None:
    """Raises a ConfigError for a setting that is None; only fields of the nets may be."""
    for key, value in section.items():
        name = f"{path}.{key}"
        if hasattr(value, "items"):
            _require_set(value, name)
        elif not name.startswith(("config.model.g.", "config.model.d.")) or key == "channels":
            require(value is not None, name, value, "is not set; only fields of model.g and model.d may be None")


def make_generator(config, data: DataSpec | None = None) -> BaseGenerator:
    """Returns the generator that a config describes, for use after training."""
    return _make_net(config, data, "g", {})


def make_nets(config, data: DataSpec | None = None) -> tuple[BaseGenerator, BaseDiscriminator]:
    """Returns generator and discriminator, after they have been built in the abstract: so they can be built."""
    model = config.model
    conditioning = model.conditioning
    right = "takes classes; set config.model.conditional=True"
    known = ("projection", *CLASS_LOSSES)
    require_choice("config.model.conditioning", conditioning, known)
    require(model.conditional or conditioning == "projection", "config.model.conditioning", conditioning, right)
    generator = make_generator(config, data)
    discriminator = _make_net(config, data, "d", dict(conditioning=conditioning, san=model.san))
    for name, net in (("g", generator), ("d", discriminator)):
        with naming_setting(config, name):
            check_net(net, input_shape(net, model.z_dim), config.batch_size)
    return generator, discriminator


def _make_net(config, data: DataSpec | None, name: str, fields: dict) -> nn.Module:
    """Returns a net, "g" or "d", with the fields that config.model.g or config.model.d sets."""
    architecture = lookup(MODELS, config.model.name, "config.model.name")["gd".index(name)]
    dtype = lookup({"float32": jnp.float32, "bfloat16": jnp.bfloat16}, config.dtype, "config.dtype")
    classes = 10 if data is None else data.num_classes
    channels = config.data.channels if config.data.channels in (1, 3, 4) else 3
    if config.model.conditional:
        require(classes > 0, "config.model.conditional", True, f"{config.data.name} has no labels; set it to False")
    given = {key: value for key, value in config.model[name].items() if value is not None and key != "channels"}
    own = {field.name for field in dataclasses.fields(architecture)} - COMMON_FIELDS
    for key, value in given.items():
        right = f"{config.model.name} has no such field; it has {', '.join(sorted(own)) or 'none of its own'}"
        require(key in own, f"config.model.{name}.{key}", value, right)
    with naming_setting(config, name):
        return architecture(
            image_size=as_image_size(*height_width(config.data.image_size if data is None else data.image_size)),
            image_channels=channels if data is None else data.channels,
            num_classes=classes if config.model.conditional else 0,
            channels=tuple(config.model[name].channels),
            dtype=dtype,
            **fields,
            **given,
        )


def _schedule(section, name: str, config, path: str = "", limit: float = math.inf) -> Schedule:
    """Returns the schedule of a setting, all of whose values are in [0, limit]."""
    start, text, setting = section[name], section[f"{name}_schedule"], f"config.{path}{name}"
    require(0 <= start < math.inf, setting, start, "must be a finite number, 0 or above")
    require(start <= limit, setting, start, f"must be at most {limit:g}")
    try:
        schedule = parse_schedule(start, text, config.train_kimg)
    except ValueError as error:
        raise ConfigError(f"{setting}_schedule={text!r}: {error}") from error
    require(max(schedule.values) <= limit, f"{setting}_schedule", text, f"must be at most {limit:g}")
    return schedule


def _optimizer(config, name: str) -> Optimizer:
    section, path = config[name], f"config.{name}"
    make, always, optional = lookup(OPTIMIZERS, section.name, f"{path}.name")
    b2 = _schedule(section, "b2", config, f"{name}.")
    for key, users in (("weight_decay", ("adamw",)), ("momentum", ("rmsprop", "sgd"))):
        right = f"{section.name} has none; {path}.name={users[-1]!r} has"
        require(section.name in users or not section[key], f"{path}.{key}", section[key], right)
    for key in ("b1", "b2", "momentum"):
        require(0 <= section[key] < 1, f"{path}.{key}", section[key], "must be in [0, 1)")
    require(max(b2.values) < 1, f"{path}.b2_schedule", section.b2_schedule, "must be in [0, 1)")
    right = f"{section.name} has no b2"
    require("b2" in always or not b2.varies, f"{path}.b2_schedule", section.b2_schedule, right)
    require(section.eps > 0, f"{path}.eps", section.eps, "must be above 0: a gradient of 0 would be divided by 0")
    for key in ("eps", "weight_decay", "clip_norm"):
        require(0 <= section[key] < math.inf, f"{path}.{key}", section[key], "must be a finite number, 0 or above")
    names = [*always, *(key for key in optional if section[key])]
    scalars = {"learning_rate": _schedule(section, "lr", config, f"{name}.")}
    scalars |= {key: b2 if key == "b2" else Schedule(section[key]) for key in names}
    return Optimizer(make, scalars)


def _penalties(config, generator: nn.Module) -> dict[str, Penalty]:
    """Returns the penalties that have a weight."""
    penalties = {}
    for name, section in config.penalty.items():
        weight = _schedule(section, "weight", config, f"penalty.{name}.")
        require(section.interval >= 1, f"config.penalty.{name}.interval", section.interval, "must be 1 or above")
        require_fraction(f"config.penalty.{name}.fraction", section.fraction)
        if not weight.is_zero:
            penalty = lookup(PENALTIES, name, "config.penalty")
            require(isinstance(penalty, Penalty), f"PENALTIES[{name!r}]", penalty, "give a Penalty")
            penalties[name] = penalty.replace(weight=weight, interval=section.interval, fraction=section.fraction)
    if "path" in penalties:
        right = f"{config.model.name} has no styles; stylegan2 has"
        has_styles = hasattr(generator, "mapping") and hasattr(generator, "synthesis")
        require(has_styles, "config.penalty.path.weight", config.penalty.path.weight, right)
    return penalties


def _class_loss(config) -> ClassLoss | None:
    section, conditioning = config.class_loss, config.model.conditioning
    for key in ("weight_d", "weight_g", "weight_clear"):
        right = "must be a finite number, 0 or above"
        require(0 <= section[key] < math.inf, f"config.class_loss.{key}", section[key], right)
    require(0 < section.confidence <= 1, "config.class_loss.confidence", section.confidence, "must be in (0, 1]")
    conditional, weight = config.model.conditional, section.weight_clear
    loss = CLASS_LOSSES.get(conditioning) if conditional else None  # with "projection" there is none
    why = f"config.model.conditioning={conditioning!r}" if conditional else "config.model.conditional=False"
    right = f"must be 0 with {why}; conditional nets with ac or adc have such a loss"
    able = getattr(loss, "fn_unclear", None) is not None
    require(able or not weight, "config.class_loss.weight_clear", weight, right)
    scalars = {key: section[key] for key in ("weight_d", "weight_g", "confidence")}
    return loss and loss.replace(**scalars, weight_clear=weight or None, on_fakes=section.fakes)


def _augmentation(config, loss: Loss) -> Augmentation | None:
    section, target = config.augment, config.augment.target
    p = _schedule(section, "p", config, "augment.", limit=1.0)
    require(0 <= target < 1, "config.augment.target", target, "must be in [0, 1)")
    if target:
        wants = f"config.augment.target={target}"
        right = f"must name an augmentation, since {wants} adapts its strength"
        require(bool(section.name), "config.augment.name", section.name, right)
        right = f"p follows the sign of logits, of which {config.loss} compares only differences; set it to 0"
        require(loss.decision_threshold is not None, "config.augment.target", target, right)
        right = f"an adaptive p has none, and {wants} makes it adaptive"
        require(section.p_schedule == "constant", "config.augment.p_schedule", section.p_schedule, right)
    if not section.name:
        return None
    fn = lookup(AUGMENTATIONS, section.name, "config.augment.name")
    if p.is_zero and not target:
        return None
    return Augmentation(fn, p, adaptive=target > 0, target=target, shared_draws=section.shared_draws)


def _ema(config) -> ExponentialEma | PowerEma:
    section = config.ema
    half_life = _schedule(section, "half_life_kimg", config, "ema.")
    require(0 <= section.rampup < math.inf, "config.ema.rampup", section.rampup, "must be a finite number, 0 or above")
    if section.sigma_rel:
        return PowerEma(power_exponent(section.sigma_rel, "config.ema.sigma_rel"))
    in_images = half_life.replace(start=1e3 * half_life.start, end=1e3 * half_life.end)
    return ExponentialEma(in_images, section.rampup or math.inf)


def _posthoc_ema(config) -> dict[str, PowerEma]:
    section, given = config.ema, tuple(config.ema.posthoc)
    if given:
        right = "config.ema.posthoc takes a power-function EMA; give its relative std"
        require(section.sigma_rel > 0, "config.ema.sigma_rel", section.sigma_rel, right)
        numbers = all(isinstance(sigma, int | float) for sigma in given)
        require(numbers, "config.ema.posthoc", given, "give relative stds, such as 0.05,0.1")
        distinct = len({f"{sigma:g}" for sigma in (section.sigma_rel, *given)}) == 1 + len(given)
        right = "give relative stds, each once and none equal to config.ema.sigma_rel"
        require(distinct, "config.ema.posthoc", given, right)
    return {f"{sigma:g}": PowerEma(power_exponent(sigma, "config.ema.posthoc")) for sigma in given}
