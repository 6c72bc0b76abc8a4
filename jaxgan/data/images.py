"""Images of one's own as a data set: what a store of image files holds, in words, and its images in one form."""

import concurrent.futures
import copy
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxgan.core import files
from jaxgan.core.array_file import NotKept, keeping
from jaxgan.core.errors import ConfigError
from jaxgan.core.integrity import Damaged, seal, unseal
from jaxgan.core.progress import progress
from jaxgan.data.decoding import DECODING_VERSION, Unreadable
from jaxgan.data.image_file import Form, check_colour, decode_image, is_grey
from jaxgan.data.labels import Labels, find_labels
from jaxgan.data.scan import NEEDS, SUFFIXES, abbreviated, printable, reason_to_pass_over
from jaxgan.data.stores import Archives, Directory

SURVEY_VERSION = 2  # of what is kept of a survey
NAMED = 10  # of the images that are left out, so many are named


class Survey(NamedTuple):
    """What the headers of image files say."""

    sizes: dict[str, int]  # how many have so many pixels, "WxH"; the most frequent first
    grey: int  # how many are grey, without transparency
    transparent_grey: int
    unknown: int  # how many headers cannot be read


class ImageSource:
    """The images of a store in one form.

    Args:
      store: what holds them.
      indices: those of its members that are in the set.
      labels: of all members.
      form: what each image becomes.
      facts: what a person should know of the store, {what: in words}.
    """

    is_checked = False

    def __init__(self, store: Directory | Archives, indices: list[int], labels: Labels, form: Form, facts: dict):
        self._store, self._indices, self._form, self._facts = store, indices, form, facts
        self._passed_over = dict(store.passed_over)
        if others := len(store.members) - len(labels.of or store.members):
            self._passed_over[f"beside {labels.origin} but not in it"] = others
        self.image_shape = (form.height, form.width, form.channels)
        self.class_names, self.num_classes = labels.class_names, labels.num_classes
        self._labels = labels.array(indices)

    def __len__(self):
        return len(self._indices)

    def facts(self):
        """Returns the facts, the classes with the number of their images, and how many files are not read and why."""
        words = {"classes": classes_in_words(self._labels, self.num_classes, self.class_names)}
        if self._passed_over:
            words["not read"] = passed_over_in_words(self._passed_over)
        return self._facts | words

    def read_labels(self):
        return self._labels

    def read(self, indices):
        return ((self._image(self._indices[i]), self._labels[i]) for i in indices)

    def without(self, unreadable):
        """Returns the source of the other files; the account has those that are left out."""
        left = copy.copy(self)
        left._indices = [member for i, member in enumerate(self._indices) if i not in unreadable]
        left._labels = np.delete(self._labels, list(unreadable))
        places = [self._store.members[self._indices[i]].place for i in list(unreadable)[:NAMED]]
        names = ", ".join(places) + ", ..." * (len(unreadable) > NAMED)
        left._passed_over = self._passed_over | {f"unreadable ({names})": len(unreadable)}
        return left

    def _image(self, member: int):
        place = self._store.members[member].place
        try:
            return decode_image(self._store.open(member), self._form, place)
        except Exception as error:  # Pillow's decoders raise many types
            raise Unreadable(f"{self._store.root / place} is not a readable image: {error}") from error


def classes_in_words(labels: np.ndarray, num_classes: int, names: tuple[str, ...] = ()) -> str:
    """Returns the classes with the number of their images, such as "2: cat (1,200), dog (7)"."""
    if not num_classes:
        return "none, the images have no labels"
    counts = np.bincount(labels, minlength=num_classes).tolist()
    return f"{num_classes:,}: {abbreviated(dict(zip(names or map(str, range(num_classes)), counts, strict=True)))}"


def form_in_words(height: int, width: int, channels: int) -> str:
    """Returns what images become, such as "64x64 RGB"."""
    return f"{width}x{height} {({1: 'grey', 3: 'RGB', 4: 'RGBA'})[channels]}"


def held_out_in_words(count: int, of: int, share: float) -> str:
    """Returns how many images are held out, of all."""
    return f"{count:,} of {of:,} (config.data.held_out={share:g})"


def passed_over_in_words(passed_over: dict[str, int]) -> str:
    """Returns how many files are not read and why, such as "2 hidden, 1 no image (.txt)"."""
    return ", ".join(f"{count:,} {printable(reason)}" for reason, count in passed_over.items())


def image_source(
    store: Directory | Archives,
    setting: str,
    given: str,
    size: tuple[int, int] | None,
    *,
    channels: int | str = "auto",
    crop: str = "center",
    alpha: str = "white",
    held_out: float = 0.0,
    part: str = "train",
    skip_unreadable: bool = False,
) -> tuple[ImageSource, Path] | tuple[None, None]:
    """Returns the images of a store, in natural order, and where their decoded copy belongs; None where there are none.

    Args:
      store: what holds them.
      setting, given: what names the store, for the error.
      size: height and width; None are those of the first image, which all of them must have.
      channels: 1, 3, 4, or "auto": 1 if all images are grey, else 3.
      crop, alpha: see `Form`.
      held_out: the share of the images, by a hash of their names, that is not in the part "train" but in "held out".
      part: "train" or "held out".
      skip_unreadable: whether images that nothing here can decode are left out; otherwise they are an error.
    """
    _require_decoders(store, setting, given, skip_unreadable)
    labels = find_labels(store, setting, given)
    listed = [i for i in range(len(store.members)) if not labels.of or i in labels.of]
    if not listed:
        there = passed_over_in_words(store.passed_over)
        raise ConfigError(
            f"{setting}={given!r}: holds no image ({', '.join(SUFFIXES)})" + f"; not read: {there}" * bool(there)
        )
    chosen = [i for i in listed if is_held_out(store.members[i].place, held_out) == (part == "held out")]
    if not chosen and part == "train":
        raise ConfigError(f"config.data.held_out={held_out}: leaves none of the {len(listed):,} images to train on")
    if not chosen:
        return None, None
    survey = survey_of(store)
    if channels == "auto":
        grey = survey.grey + survey.transparent_grey * check_colour(alpha, "config.data.alpha")
        channels = 1 if grey and grey == len(store.members) - survey.unknown else 3
    height, width = size or _first_size(store, chosen)
    form = Form(height, width, channels, crop, alpha, exact=size is None)
    facts = {
        "from": f"a {store.kind}, " + (f"labels by {labels.origin}" if labels.origin else "no labels"),
        "sizes": abbreviated(survey.sizes, 4) or "unknown",
        "taken as": form_in_words(height, width, channels),
    }
    if part == "train" and held_out:
        facts["held out"] = held_out_in_words(len(listed) - len(chosen), len(listed), held_out)
    # A file that is replaced changes its size or its time, so the images are decoded again.
    key = [f"{str(store.root)!a} {form} {DECODING_VERSION}", f"{labels.array(chosen).tolist()}"]
    key += [f"{store.members[i].place!a} {store.members[i].stamp}" for i in chosen]
    return ImageSource(store, chosen, labels, form, facts), files.keyed_cache_directory("decoded", *key)


def is_held_out(name: str, share: float) -> bool:
    """Returns whether the image of this name is among the share of all images that is held out.

    Example:
      >>> sum(is_held_out(f"{i}.png", 0.02) for i in range(10_000))
      207
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def survey_of(store: Directory | Archives) -> Survey:
    """Returns what the headers of the images say; they are read once, and what they say is kept."""
    key = [f"{member.place!a} {member.stamp}" for member in store.members]
    file = files.keyed_cache_directory("survey", f"{str(store.root)!a} {SURVEY_VERSION}", *key) / "survey.json"
    try:
        return Survey(**unseal(json.loads(file.read_bytes())))
    except (OSError, ValueError, TypeError, Damaged):
        survey = _survey(store)
    try:
        with keeping():
            file.parent.mkdir(parents=True, exist_ok=True)
            files.atomic_write(file, json.dumps(seal(survey._asdict())).encode())
    except NotKept as error:
        files.announce(f"warning: the headers of the images are read at each start: {error}")
    return survey


def _survey(store: Directory | Archives) -> Survey:
    sizes, count = {}, {"grey": 0, "transparent grey": 0, "unknown": 0}
    n = len(store.members)
    parts = [range(start, min(start + 256, n)) for start in range(0, n, 256)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads, progress(n, "reading headers") as update:
        for headers in threads.map(lambda part: [_header(store, i) for i in part], parts):
            for size, kind in headers:
                if size is not None:
                    sizes[size] = sizes.get(size, 0) + 1
                if kind in count:
                    count[kind] += 1
            update(len(headers))
    order = sorted(sizes, key=lambda size: (-sizes[size], size))
    return Survey({size: sizes[size] for size in order}, *count.values())


def _header(store: Directory | Archives, i: int) -> tuple[str | None, str]:
    """Returns the size of a member, "WxH", and "grey", "transparent grey" or "colour"; None, "unknown" of no image."""
    for read in (store.head, store.open):
        try:
            with Image.open(read(i)) as image:
                kind = "colour" if not is_grey(image) else "transparent grey" if image.has_transparency_data else "grey"
                return f"{image.width}x{image.height}", kind
        except Exception:  # decoding will say so, of all files at once
            continue
    return None, "unknown"


def _first_size(store: Directory | Archives, chosen: list[int]) -> tuple[int, int]:
    """Returns height and width of the first image that has any."""
    sizes = (_header(store, i)[0] for i in chosen)
    width, height = next((size for size in sizes if size), "1x1").split("x")
    return int(height), int(width)


def _require_decoders(store: Directory | Archives, setting: str, given: str, skip: bool) -> None:
    """Raises a ConfigError where there are images that a package would decode which is not installed."""
    for suffix, what in NEEDS.items():
        count = store.passed_over.get(reason_to_pass_over(f"x{suffix}", set()), 0)
        if count and not skip:
            advice = "; config.data.skip_unreadable=True leaves them out" if setting.startswith("config.") else ""
            raise ConfigError(f"{setting}={given!r}: holds {count:,} {suffix} images, which take {what}{advice}")
