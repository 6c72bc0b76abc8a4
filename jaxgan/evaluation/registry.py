"""Every metric by its name, which way it is better, and what has to hold before anything is computed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxgan.core.errors import is_whole, lookup, require, require_whole
from jaxgan.core.words import nearest
from jaxgan.evaluation.features import FeatureSet
from jaxgan.evaluation.metrics.classes import check_label_range, class_accuracy, class_balance
from jaxgan.evaluation.metrics.colourfulness import colourfulness
from jaxgan.evaluation.metrics.frechet import (
    Gaussian,
    Moments,
    check_classes,
    frechet_distance,
    frechet_infinity,
    frechet_per_class,
)
from jaxgan.evaluation.metrics.inception_score import inception_score
from jaxgan.evaluation.metrics.kid import kid
from jaxgan.evaluation.metrics.memorisation import authpct
from jaxgan.evaluation.metrics.modes import modes
from jaxgan.evaluation.metrics.msssim import msssim_within_classes
from jaxgan.evaluation.metrics.prdc import prdc
from jaxgan.evaluation.metrics.sliced import swd
from jaxgan.evaluation.networks import NETWORKS, cifar, patches
from jaxgan.evaluation.protocol import Protocol


class Metric(NamedTuple):
    """What a metric compares, computes and needs; an entry of `METRICS`."""

    features: str  # "network/output"
    keys: Mapping[str, bool | None]  # of the results: whether higher is better, None where neither is
    compute: Callable  # (fakes: FeatureSet, reference, protocol) -> a number for each key; see `class_key`
    reference: Callable[[FeatureSet], Any] | None = None  # what is made of the reals, once; None: needs no reals
    class_key: str = ""  # key of a single class's number, such as "fid_of_class_{}"; compute ends with {class: number}
    check_labels: Callable | None = None  # (fakes' labels, reals' or None), may raise ValueError; None: needs no labels
    min_fakes: int = 2
    min_reals: int = 2
    splits: bool = False  # whether `min_fakes` is for each of the protocol's `is_splits` parts
    dataset: str = ""  # the data set that it is defined for, by its name in config.data.name; "": any
    shape: tuple[int, ...] = ()  # of images, H, W and C, of other data sets that it takes as well; (): of none
    pairs: bool = True  # whether a distance of two rows of its features is one of two images

    @property
    def is_frechet(self) -> bool:
        """Whether the mean and covariance of the reals are all that it takes of them."""
        return self.reference is _gaussian


def _gaussian(features: FeatureSet) -> Gaussian:
    return Moments().add(features.features).gaussian()


def _all(features: FeatureSet) -> FeatureSet:
    return features


def _fid(fakes, reference, protocol):
    return [frechet_distance(_gaussian(fakes), reference)]


def _fid_infinity(fakes, reference, protocol):
    return [frechet_infinity(fakes.features, reference, seed=protocol.seed)]


def _fid_per_class(fakes, reference, protocol):
    return frechet_per_class(fakes.features, fakes.labels, reference.features, reference.labels)


def _kid(fakes, reference, protocol):
    return kid(fakes.features, reference.features)


def _prdc(fakes, reference, protocol):
    values = prdc(fakes.features, reference.features)
    return [values[name] for name in ("precision", "recall", "density", "coverage")]


def _authpct(fakes, reference, protocol):
    return [authpct(fakes.features, reference.features)]


def _is(fakes, reference, protocol):
    return inception_score(fakes.features, protocol.is_splits)


def _balance(fakes, reference, protocol):
    kl, fractions = class_balance(fakes.features)
    return kl, dict(zip(cifar.CLASSES, fractions))


def _accuracy(fakes, reference, protocol):
    mean, each = class_accuracy(fakes.features, fakes.labels)
    return mean, dict(zip(cifar.CLASSES, each))


def _mean_accuracy(fakes, reference, protocol):
    return [class_accuracy(fakes.features, fakes.labels)[0]]


def _swd(fakes, reference, protocol):
    return swd(patches.unpack(fakes.features), patches.unpack(reference.features), protocol.seed)


def _msssim(fakes, reference, protocol):
    return msssim_within_classes(patches.unpack_images(fakes.features), fakes.labels, protocol.seed)


def _colourfulness(fakes, reference, protocol):
    return [float(colourfulness(patches.unpack_images(fakes.features)).mean())]


def _modes(fakes, reference, protocol):
    values = modes(fakes.features)
    return [values[name] for name in ("modes", "kl")]


def _ten_classes(labels, reference_labels):
    check_label_range(labels, 10)


HIGHER, LOWER = True, False
# What a classifier of CIFAR-10 sees in other images of its size is worth something, the classes that it finds nothing.
_CIFAR_FEATURES = dict(dataset="cifar10", shape=(cifar.SIZE, cifar.SIZE, 3))

# The name FID is for Inception's features; with others the same formula is an FD.
METRICS = {
    "fid": Metric("inception/pool", {"fid": LOWER}, _fid, _gaussian),
    "sfid": Metric("inception/spatial", {"sfid": LOWER}, _fid, _gaussian),
    "fid_infinity": Metric("inception/pool", {"fid_infinity": LOWER}, _fid_infinity, _gaussian, min_fakes=5001),
    "fid_per_class": Metric(
        "inception/pool",
        {"fid_per_class": LOWER},
        _fid_per_class,
        _all,
        class_key="fid_of_class_{}",
        check_labels=check_classes,
    ),
    "kid": Metric("inception/pool", {"kid": LOWER, "kid_std": None}, _kid, _all, min_fakes=1000, min_reals=1000),
    "prdc": Metric(
        "inception/pool",
        {"precision": HIGHER, "recall": HIGHER, "density": HIGHER, "coverage": HIGHER},
        _prdc,
        _all,
        min_fakes=6,
        min_reals=6,
    ),
    # Copies have 0, but noise has 100; what to be near to is the value of a test set.
    "authpct": Metric("inception/pool", {"authpct": None}, _authpct, _all),
    "is": Metric("inception/logits", {"is": HIGHER, "is_std": None}, _is, splits=True),
    #
    "fd_dinov2": Metric("dinov2/pool", {"fd_dinov2": LOWER}, _fid, _gaussian),
    "fd_infinity_dinov2": Metric(
        "dinov2/pool", {"fd_infinity_dinov2": LOWER}, _fid_infinity, _gaussian, min_fakes=5001
    ),
    "fd_per_class_dinov2": Metric(
        "dinov2/pool",
        {"fd_per_class_dinov2": LOWER},
        _fid_per_class,
        _all,
        class_key="fd_of_class_{}_dinov2",
        check_labels=check_classes,
    ),
    "kid_dinov2": Metric(
        "dinov2/pool", {"kid_dinov2": LOWER, "kid_dinov2_std": None}, _kid, _all, min_fakes=1000, min_reals=1000
    ),
    "prdc_dinov2": Metric(
        "dinov2/pool",
        {
            "precision_dinov2": HIGHER,
            "recall_dinov2": HIGHER,
            "density_dinov2": HIGHER,
            "coverage_dinov2": HIGHER,
        },
        _prdc,
        _all,
        min_fakes=6,
        min_reals=6,
    ),
    "authpct_dinov2": Metric("dinov2/pool", {"authpct_dinov2": None}, _authpct, _all),
    #
    "fd_cifar": Metric("cifar/pool", {"fd_cifar": LOWER}, _fid, _gaussian, **_CIFAR_FEATURES),
    "fd_infinity_cifar": Metric(
        "cifar/pool", {"fd_infinity_cifar": LOWER}, _fid_infinity, _gaussian, min_fakes=5001, **_CIFAR_FEATURES
    ),
    "fd_per_class_cifar": Metric(
        "cifar/pool",
        {"fd_per_class_cifar": LOWER},
        _fid_per_class,
        _all,
        class_key="fd_of_class_{}_cifar",
        check_labels=check_classes,
        **_CIFAR_FEATURES,
    ),
    "kid_cifar": Metric(
        "cifar/pool",
        {"kid_cifar": LOWER, "kid_cifar_std": None},
        _kid,
        _all,
        min_fakes=1000,
        min_reals=1000,
        **_CIFAR_FEATURES,
    ),
    "prdc_cifar": Metric(
        "cifar/pool",
        {"precision_cifar": HIGHER, "recall_cifar": HIGHER, "density_cifar": HIGHER, "coverage_cifar": HIGHER},
        _prdc,
        _all,
        min_fakes=6,
        min_reals=6,
        **_CIFAR_FEATURES,
    ),
    "authpct_cifar": Metric("cifar/pool", {"authpct_cifar": None}, _authpct, _all, **_CIFAR_FEATURES),
    "is_cifar": Metric("cifar/logits", {"is_cifar": HIGHER, "is_cifar_std": None}, _is, splits=True, dataset="cifar10"),
    "balance_cifar": Metric(
        "cifar/logits", {"class_kl_cifar": LOWER}, _balance, class_key="fraction_of_{}_cifar", dataset="cifar10"
    ),
    "accuracy_cifar": Metric(
        "cifar/logits",
        {"accuracy_cifar": HIGHER},
        _accuracy,
        class_key="accuracy_of_{}_cifar",
        check_labels=_ten_classes,
        dataset="cifar10",
    ),
    #
    "fd_numerals": Metric("numerals/pixels", {"fd_numerals": LOWER}, _fid, _gaussian, dataset="numerals"),
    "accuracy_numerals": Metric(
        "numerals/logits",
        {"accuracy_numerals": HIGHER},
        _mean_accuracy,
        check_labels=_ten_classes,
        dataset="numerals",
    ),
    "swd": Metric("patches/pyramid", {"swd": LOWER}, _swd, _all, class_key="swd_at_{}", pairs=False),
    # What to be near to is the value of the training images: alike samples have a high msssim, but noise has 0.
    "msssim": Metric("pixels/small", {"msssim": None}, _msssim, class_key="msssim_of_class_{}"),
    "colourfulness": Metric("pixels/small", {"colourfulness": None}, _colourfulness),
    #
    "modes": Metric("digits/logits", {"modes": HIGHER, "kl": LOWER}, _modes, dataset="stacked_digits"),
}


def higher_is_better(key: str) -> bool:
    """Returns whether a result is better when it is higher; `key` may begin with "eval/", as it does in a run's log.

    Raises:
      ConfigError: no metric has this result, or neither direction is better; the message lists those that have one.

    Example:
      >>> higher_is_better("eval/fid")
      False
    """
    known = _directions(METRICS)
    return lookup(known, key.removeprefix("eval/"), "metric")


def _directions(names: Iterable[str]) -> dict[str, bool]:
    """Returns the results of these metrics that have a better direction, and whether that is up."""
    return {key: higher for name in names for key, higher in METRICS[name].keys.items() if higher is not None}


def check_metrics(
    names: Iterable[str],
    protocol: Protocol,
    setting: Callable[[str], str] = str,
    *,
    data_name: str = "",
    image_shape: tuple[int, ...] = (),
    conditional: bool = True,
    best_metric: str = "",
) -> None:
    """Raises a ConfigError for the first thing that keeps metrics from being computed, as far as settings tell.

    Args:
      names: of metrics.
      protocol: what they are computed by.
      setting: what the caller calls "metrics", "best_metric" or a field of the protocol, such as `"--{}".format`.
      data_name: config.data.name of a run that is to be evaluated while it trains; "": metrics that are defined for
        one data set only are accepted.
      image_shape: H, W and C of its images.
      conditional: whether the fakes have labels.
      best_metric: the result that checkpoints are chosen by, such as "eval/fid"; "": none.
    """
    names = list(names)
    num, num_reals, splits = protocol.num, protocol.num_reals, protocol.is_splits
    for name in names:
        metric = lookup(METRICS, name, setting("metrics"))
        require(isinstance(metric, Metric), f"METRICS[{name!r}]", metric, "give a Metric")
        lookup(NETWORKS, metric.features.partition("/")[0], f"METRICS[{name!r}].features")
    require(len(set(names)) == len(names), setting("metrics"), ",".join(names), "names a metric twice; once is enough")
    require_whole(setting("num"), num, 2, 2**31 - 1)  # samples are counted in 32 bits
    right = "must be a whole number, 0 (all) or 2 or above"
    require(is_whole(num_reals) and num_reals != 1, setting("num_reals"), num_reals, right)
    require_whole(setting("is_splits"), splits, 1)
    require_whole(setting("seed"), protocol.seed, 0, 2**31 - 1)
    require_whole(setting("standing_batches"), protocol.standing_batches)
    require(isinstance(protocol.flips, bool), setting("flips"), protocol.flips, "choose True or False")
    for name in names:
        metric = METRICS[name]
        least = metric.min_fakes * (splits if metric.splits else 1)
        parts = f", {metric.min_fakes} in each of {splits} splits" if metric.splits else ""
        require(num >= least, setting("num"), num, f"{name} takes at least {least} fakes{parts}")
        enough = num_reals >= (metric.min_reals if metric.reference and num_reals else 0)
        require(enough, setting("num_reals"), num_reals, f"{name} takes at least {metric.min_reals} reals")
        fits = not data_name or metric.dataset in ("", data_name) or metric.shape == tuple(image_shape) != ()
        also = f" and images of {'x'.join(map(str, metric.shape))}" * bool(metric.shape)
        right = f"is defined for the data set {metric.dataset}{also} only, not {data_name}"
        require(fits, setting("metrics"), name, right)
        right = "takes the classes of the samples, and the generator is unconditional"
        require(conditional or metric.check_labels is None, setting("metrics"), name, right)
    if best_metric:
        known = {f"eval/{key}" for key in _directions(names)}
        choices = ", ".join(sorted(known)) or "none is evaluated"
        right = f"is not among the results that say which checkpoint is better: {choices}{nearest(best_metric, known)}"
        require(best_metric in known, setting("best_metric"), best_metric, right)
