"""What a person can do with a generator in a browser: the pictures of what its controls say, which `page.py` shows."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxgan.core.errors import ConfigError, require
from jaxgan.sampling.directions import semantic_directions
from jaxgan.sampling.films import Film, mix_classes
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.interpolation import lerp, slerp
from jaxgan.sampling.inversion import Inversion, approach, pyramid
from jaxgan.sampling.pictures import grid, planes, read_images

BATCH = 12  # pictures that are made at once, where it is not one
KEPT = 600  # pictures, so that who goes back to one does not wait
DIRECTIONS, EXTENT = 6, 3.0
BOUND = 3.0  # of latents; from there on there is none
ANY = -1  # in place of a class: that of the seed, or none to mix with
STEPS = 300  # of the search for an uploaded picture
SECONDS, FPS = 3.0, 20.0  # of a film, each way


class Point(NamedTuple):
    """What a picture is made from: what the controls say."""

    seed: int
    label: int = ANY
    other: int = ANY  # a class to mix in
    share: float = 0.0  # of the other class
    truncation: float | None = None
    to: int = 0  # the second seed
    way: float = 0.0  # how far along the walk to the second seed, 0 .. 1
    start: int = 0  # the seed's picture, or an uploaded one that was found: 1, 2, ...
    first: int = 0  # layer, from which on styles are those of the second seed
    until: int = 0  # layer, from which on they are no more
    moves: tuple[float, ...] = ()  # along each direction


class Start(NamedTuple):
    """What a picture starts from."""

    latent: np.ndarray  # [Z], or found styles [L, W]
    label: int
    noise: np.ndarray  # data of a key


class Explorer:
    """Draws the pictures of a generator, each of them once; any number of threads may ask."""

    def __init__(self, generator: Generator):
        self.generator = generator
        self._sample = functools.lru_cache(4096)(self._draw_sample)
        self._found: list[Start] = []
        self._kept: dict[Point, np.ndarray] = {}
        self._lock = threading.RLock()

    @property
    def class_names(self) -> list[str]:
        """What the classes are called; [] without any."""
        return list(self.generator.class_names) or [str(i) for i in range(self.generator.num_classes)]

    @property
    def num_directions(self) -> int:
        """0: the architecture does not say which layers its latents enter."""
        return min(DIRECTIONS, self.generator.z_dim) if getattr(self.generator.module, "latent_layers", "") else 0

    @functools.cached_property
    def num_styles(self) -> int:
        """How many layers have a style; 0: there are no styles."""
        if not self.generator.has_styles:
            return 0
        return self.generator.styles(np.zeros((1, self.generator.z_dim), np.float32), np.zeros(1, np.int32)).shape[1]

    @property
    def no_truncation(self) -> float:
        """The truncation that is none, as all that are larger."""
        return 1.0 if self.generator.has_styles else BOUND

    def draw(self, points: Sequence[Point]) -> list[np.ndarray]:
        """Returns a picture of each point, uint8 [H, W, C]; what is kept is not made again.

        Raises:
          ConfigError: a seed, a class or a truncation that does not exist.
        """
        points = [self._simplest(point) for point in points]
        with self._lock:
            new = [point for point in dict.fromkeys(points) if point not in self._kept]
            for _, group in itertools.groupby(sorted(new, key=self._network), self._network):
                group = list(group)
                for start in range(0, len(group), BATCH):
                    batch = group[start : start + BATCH]
                    self._kept.update(zip(batch, self._make(batch)))
            found = [self._kept[point] for point in points]
            for point in list(self._kept)[:-KEPT]:
                del self._kept[point]
        return found

    def arrays(self, points: Sequence[Point]) -> dict[str, np.ndarray]:
        """Returns what pictures are made from and what they are, for an .npz.

        Returns:
          latents [n, Z] or styles [n, L, W], labels [n], keys [n, 2] (data of the noise keys) and images [n, H, W, C].
        """
        with self._lock:
            made_from = [self._made_from([self._simplest(point)])[1:] for point in points]
        latents, labels, keys = zip(*made_from, strict=True)
        keys = [jax.random.key_data(key) for key in keys]
        arrays = dict(latents=latents, labels=labels, keys=keys)
        return {name: np.concatenate(parts) for name, parts in arrays.items()} | {"images": np.stack(self.draw(points))}

    def film(self, point: Point, side: int) -> Film:
        """Returns the walk from a point's start to its second seed and back, in pictures as large as `side` allows."""
        self.check_walk(point)
        ways = np.linspace(0.0, 1.0, round(SECONDS * FPS))
        ways = [*ways, *ways[-2:0:-1]]

        def frames() -> Iterator[np.ndarray]:
            for start in range(0, len(ways), BATCH):
                points = [point._replace(way=float(way)) for way in ways[start : start + BATCH]]
                yield from (self.enlarged(image, side) for image in self.draw(points))

        return Film(frames(), len(ways), FPS)

    def check_walk(self, point: Point) -> None:
        """Raises a ConfigError where there is no way from a point's start to the second seed."""
        right = "a walk ends at another seed than it begins with"
        require(point.start > 0 or point.to != point.seed, "second seed", point.to, right)

    def read(self, path) -> np.ndarray:
        """Returns the picture in a file as the generator would have it, uint8 [H, W, C].

        Raises:
          ConfigError: it is no picture, or too large a one.
        """
        shape = self.generator.image_shape
        (image,) = read_images(path, shape[:2], shape[2])
        return image

    def project(self, image: np.ndarray, label: int = ANY, steps: int = STEPS) -> Iterator[tuple[int, int, Inversion]]:
        """Searches what the generator can make for a picture, see `read`, and yields how near it has come.

        Returns:
          Which start of a `Point` it is, the steps done, and what was found.
        """
        number = 0
        for step, found in approach(
            self.generator, image, steps, features=pyramid, label=None if label == ANY else label
        ):
            start = Start(found.latents[0], int(found.labels[0]), np.asarray(jax.random.key_data(found.keys))[0])
            with self._lock:
                if not number:
                    self._found.append(start)
                    number = len(self._found)
                self._found[number - 1] = start
                self._kept = {point: kept for point, kept in self._kept.items() if point.start != number}
            yield number, step, found

    def prepare(self) -> None:
        """Compiles what pictures take, and draws the first ones, so that nobody who moves a control waits for it."""
        moves = (EXTENT / 2,) * self.num_directions
        for truncation in (None, self.no_truncation / 2):
            self.draw([Point(0, truncation=truncation, to=1, way=0.5, until=1, moves=moves)])
        self.draw([Point(seed) for seed in range(BATCH)])

    def enlarged(self, image: np.ndarray, side: int) -> np.ndarray:
        """Returns an image, uint8 [H, W, C], without interpolation as large as a `side` allows, [H', W', 3]."""
        config = self.generator.config
        image = planes(image[None]) if config and config.data.name == "stacked_digits" else image[None]
        return grid(image, 1, pad=0, scale=max(1, side // max(image.shape[1:3])))

    def _simplest(self, point: Point) -> Point:
        """Returns the point without what has no effect: points of one picture are equal, but for those by chance.

        A walk between seeds that have their own classes goes from class to class.
        """
        if not point.start and point.to == point.seed:
            point = point._replace(way=0.0, until=0)
        if point.way and point.label == point.other == ANY and self._mixes_classes:
            end = self._sample(point.to, None).label
            if end != self._start(point).label:
                point = point._replace(other=end, share=point.way)
        if point.other in (ANY, point.label) or not point.share:
            point = point._replace(other=ANY, share=0.0)
        if point.truncation is not None and point.truncation >= self.no_truncation:
            point = point._replace(truncation=None)
        if point.start:
            point = point._replace(seed=0)
        if point.first >= point.until:
            point = point._replace(first=0, until=0)
        if not point.way and not point.until:
            point = point._replace(to=0, way=0.0)
        return point if any(point.moves) else point._replace(moves=())

    def _draw_sample(self, seed: int, truncation: float | None) -> Start:
        """Returns what sample 0 of a seed is made from."""
        one = dataclasses.replace(self.generator, batch_size=1)
        z, label, key, _ = one.inputs(1, seed, None, truncation)
        return Start(z[0], int(label[0]), np.asarray(jax.random.key_data(key))[0])

    def _start(self, point: Point) -> Start:
        if not point.start:
            return self._sample(point.seed, point.truncation)
        right = f"choose one of the {len(self._found)} that were found, or 0"
        require(0 < point.start <= len(self._found), "start", point.start, right)
        return self._found[point.start - 1]

    def _classes(self, point: Point) -> tuple[int, int]:
        """Returns a point's class and the one that is mixed in, the same if there is none."""
        label = self._start(point).label if point.label == ANY else point.label
        other = label if point.other == ANY else point.other
        if (label, other) != (0, 0):
            self.generator.check_labels([label, other])
        return label, other

    def _network(self, point: Point) -> tuple:
        """Returns what a call of the net has one of: a truncation of styles, and classes that are mixed in it."""
        if self.generator.has_styles:
            return (self.no_truncation if point.truncation is None else point.truncation,)
        return (*self._classes(point), point.share) if point.share else ()

    def _make(self, points: list[Point]) -> np.ndarray:
        """Returns images, uint8 [n, H, W, C], of points whose `_network` is the same."""
        count, size = len(points), 1 if len(points) == 1 else BATCH
        points = points + points[-1:] * (size - count)  # so that no program depends on their number
        generator, *inputs = self._made_from(points)
        return generator.generate(*inputs)[:count]

    def _made_from(self, points: list[Point]) -> tuple[Generator, np.ndarray, np.ndarray, jax.Array]:
        """Returns the generator that `_make` calls, and with what: latents or styles, labels and noise keys."""
        z = np.stack([self._position(point) for point in points])
        keys = jax.random.wrap_key_data(np.stack([self._start(point).noise for point in points]))
        labels, others = np.array([self._classes(point) for point in points], np.int32).T
        generator, (first, *_) = dataclasses.replace(self.generator, batch_size=len(points)), points
        if generator.has_styles:
            z = self._styles(generator, points, z, labels, others)
        elif first.share:
            mixed = mix_classes(generator.variables, generator.num_classes, labels[0], others[0], first.share)
            generator = dataclasses.replace(generator, variables=mixed)
        if any(point.moves for point in points):
            moves = np.array([point.moves or [0.0] * self.num_directions for point in points], np.float32)
            moves = moves @ self._directions
            z = z + (moves[:, None] if generator.has_styles else moves)
        return generator, z, labels, keys

    def _position(self, point: Point) -> np.ndarray:
        """Returns where on its walk a point is, [Z], before it moves along directions.

        From styles that were found there is no way in z: their walk is in styles, and this is its end.
        """
        start = self._start(point).latent
        if start.ndim == 1 and not point.way:
            return start
        end = self._sample(point.to, point.truncation).latent
        return slerp(start, end, np.float32(point.way)) if start.ndim == 1 else end

    def _styles(self, generator: Generator, points: list[Point], z, labels, others) -> np.ndarray:
        """Returns the styles [n, L, W] of points whose truncation is the same and whose `_position` is z [n, Z]."""
        psi, layers = points[0].truncation, np.arange(self.num_styles)
        share = np.array([point.share for point in points], np.float32)[:, None, None]
        found = np.array(lerp(*(generator.styles(z, classes, psi) for classes in (labels, others)), share))
        for i, point in enumerate(points):
            if point.start:
                found[i] = lerp(self._start(point).latent, found[i], point.way)
        if any(point.until for point in points):
            ends = np.stack([self._sample(point.to, psi).latent for point in points])
            taken = np.stack([(point.first <= layers) & (layers < point.until) for point in points])
            found = np.where(taken[..., None], generator.styles(ends, labels, psi), found)
        return found

    @functools.cached_property
    def _mixes_classes(self) -> bool:
        if self.generator.has_styles or not self.generator.num_classes:
            return self.generator.has_styles
        try:
            return bool(mix_classes(self.generator.variables, self.generator.num_classes, 0, 0, 0.5))
        except ConfigError:
            return False

    @functools.cached_property
    def _directions(self) -> np.ndarray:
        return semantic_directions(self.generator, self.num_directions)[0]
