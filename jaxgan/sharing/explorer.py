"""What a person can do with a generator in a browser, as functions of what its controls say; `page.py` shows it."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxgan.core.errors import lookup, require
from jaxgan.data import Dataset, evenly_spaced, read
from jaxgan.sampling.directions import semantic_directions
from jaxgan.sampling.films import mix_classes
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.interpolation import lerp, slerp
from jaxgan.sampling.pictures import grid, planes

BATCH = 12  # pictures that are made at once, where it is not one
KEPT = 600  # pictures, so that who goes back to one does not wait
DIRECTIONS, EXTENT = 6, 3.0
STEPS = (-1.0, -0.5, 0.5, 1.0)  # of the extent, in the sheet of directions
NEIGHBOURS, SEARCHED, COMPARED = 5, 50_000, 32  # images shown, images searched, pixels of a side that are compared
BOUND = 3.0  # of latents; from there on there is none
ANY = -1  # in place of a class: that of the seed, or none to mix with


class Point(NamedTuple):
    """What a picture is made from: what the controls say, in their order."""

    seed: int
    label: int = ANY
    other: int = ANY  # a class to mix in
    share: float = 0.0  # of the other class
    truncation: float | None = None
    to: int = 0  # the seed at the end of the walk
    way: float = 0.0  # how far along the walk, 0 .. 1
    moves: tuple[float, ...] = ()  # along each direction


class Tile(NamedTuple):
    """A picture of a sheet, and what a click on it sets."""

    image: np.ndarray  # uint8 [H, W, C]
    caption: str
    sets: dict[str, int | float]  # "seed", "way", or "move 1" and so on


class Sheet(NamedTuple):
    """Pictures beside that of a point, and what they are."""

    tiles: list[Tile]
    note: str


class Explorer:
    """Draws the pictures of a generator, each of them once.

    Args:
      generator: any.
      open_reals: opens the images that it was trained on; None: they are not to be had.
    """

    def __init__(self, generator: Generator, open_reals: Callable[[], Dataset] | None = None):
        self.generator, self._open_reals = generator, open_reals
        self._latent = functools.lru_cache(4096)(self._draw_latent)
        self._kept: dict[Point, np.ndarray] = {}
        self._lock = threading.RLock()  # the page calls from several threads

    @property
    def class_names(self) -> list[str]:
        """What the classes are called; [] without any."""
        return list(self.generator.class_names) or [str(i) for i in range(self.generator.num_classes)]

    @property
    def num_directions(self) -> int:
        """0: the architecture does not say which layers its latents enter."""
        return min(DIRECTIONS, self.generator.z_dim) if getattr(self.generator.module, "latent_layers", "") else 0

    @property
    def no_truncation(self) -> float:
        """The truncation that is none, as all that are larger."""
        return 1.0 if self.generator.has_styles else BOUND

    @property
    def sheets(self) -> dict[str, Callable[[Point], Sheet]]:
        """What can be seen beside the picture of a point, by its name."""
        found = {"Seeds": self._seeds, "Walk": self._walk}
        found |= {"Directions": self._traversals} if self.num_directions else {}
        return found | ({"Training images": self._neighbours} if self._open_reals else {})

    def sheet(self, name: str, point: Point) -> Sheet:
        """Returns what one of the `sheets` shows of a point."""
        return lookup(self.sheets, name, "sheet")(point)

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

    def prepare(self) -> None:
        """Compiles what pictures take, and draws the first ones, so that nobody who moves a control waits for it."""
        moves = (EXTENT / 2,) * self.num_directions
        for truncation in (None, self.no_truncation / 2):
            self.draw([Point(0, truncation=truncation, to=1, way=0.5, moves=moves)])
        self.sheet("Seeds", Point(0))

    def enlarged(self, image: np.ndarray, side: int) -> np.ndarray:
        """Returns an image, uint8 [H, W, C], without interpolation as large as a `side` allows, [H', W', 3]."""
        config = self.generator.config
        image = planes(image[None]) if config and config.data.name == "stacked_digits" else image[None]
        return grid(image, 1, pad=0, scale=max(1, side // max(image.shape[1:3])))

    def _simplest(self, point: Point) -> Point:
        """Returns the point without what has no effect: points of one picture are equal, but for those by chance."""
        if point.other in (ANY, point.label) or not point.share:
            point = point._replace(other=ANY, share=0.0)
        if point.truncation is not None and point.truncation >= self.no_truncation:
            point = point._replace(truncation=None)
        if point.to == point.seed or not point.way:
            point = point._replace(to=0, way=0.0)
        return point if any(point.moves) else point._replace(moves=())

    def _draw_latent(self, seed: int, truncation: float | None) -> tuple[np.ndarray, int, np.ndarray]:
        """Returns what sample 0 of a seed is made from: its latent [Z], its class and its noise key."""
        one = dataclasses.replace(self.generator, batch_size=1)
        z, label, key, _ = one.inputs(1, seed, None, truncation)
        return z[0], int(label[0]), np.asarray(jax.random.key_data(key))[0]

    def _classes(self, point: Point) -> tuple[int, int]:
        """Returns a point's class and the one that is mixed in, the same if there is none."""
        label = self._latent(point.seed, None)[1] if point.label == ANY else point.label
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
        z = np.stack([self._position(point) for point in points])
        keys = jax.random.wrap_key_data(np.stack([self._latent(point.seed, None)[2] for point in points]))
        labels, others = np.array([self._classes(point) for point in points], np.int32).T
        generator, (first, *_) = dataclasses.replace(self.generator, batch_size=size), points
        if generator.has_styles:
            share = np.array([point.share for point in points], np.float32)[:, None, None]
            z = lerp(*(generator.styles(z, classes, first.truncation) for classes in (labels, others)), share)
        elif first.share:
            mixed = mix_classes(generator.variables, generator.num_classes, labels[0], others[0], first.share)
            generator = dataclasses.replace(generator, variables=mixed)
        if any(point.moves for point in points):
            moves = np.array([point.moves or [0.0] * self.num_directions for point in points], np.float32)
            moves = moves @ self._directions
            z = z + (moves[:, None] if generator.has_styles else moves)
        return generator.generate(z, labels, keys)[:count]

    def _position(self, point: Point) -> np.ndarray:
        """Returns where on its walk a point is, [Z], before it moves along directions."""
        start = self._latent(point.seed, point.truncation)[0]
        return slerp(start, self._latent(point.to, point.truncation)[0], np.float32(point.way)) if point.way else start

    @functools.cached_property
    def _directions(self) -> np.ndarray:
        return semantic_directions(self.generator, self.num_directions)[0]

    def _seeds(self, point: Point) -> Sheet:
        """Shows the page of seeds that this one is on."""
        self._latent(point.seed, None)  # or an error
        first = point.seed - point.seed % BATCH
        seeds = range(first, min(first + BATCH, 2**31))
        images = self.draw([point._replace(seed=seed, way=0.0, moves=()) for seed in seeds])
        still = {"way": 0.0} | {f"move {i + 1}": 0.0 for i in range(self.num_directions)}
        tiles = [Tile(image, str(seed), {"seed": seed, **still}) for image, seed in zip(images, seeds)]
        return Sheet(tiles, f"The pictures of the seeds {seeds[0]} to {seeds[-1]}.")

    def _walk(self, point: Point) -> Sheet:
        """Shows the whole way from one seed to the other."""
        require(point.to != point.seed, "walk to seed", point.to, "a walk ends at another seed than it begins with")
        ways = [round(i / (BATCH - 1), 2) for i in range(BATCH)]
        images = self.draw([point._replace(way=way) for way in ways])
        tiles = [Tile(image, f"{way:.0%}", {"way": way}) for image, way in zip(images, ways)]
        return Sheet(tiles, f"The walk from seed {point.seed} to seed {point.to}.")

    def _traversals(self, point: Point) -> Sheet:
        """Shows a direction in each column, from one end to the other, with the other directions as they are."""
        now, places = point.moves or (0.0,) * self.num_directions, range(self.num_directions)
        moves = [(i, step * EXTENT) for step in STEPS for i in places]
        images = self.draw([point._replace(moves=(*now[:i], move, *now[i + 1 :])) for i, move in moves])
        tiles = [Tile(image, f"{i + 1}: {move:+g}", {f"move {i + 1}": move}) for image, (i, move) in zip(images, moves)]
        return Sheet(
            tiles, f"The picture moved along a direction in each column, by {-EXTENT:g} above, {EXTENT:g} below."
        )

    def _neighbours(self, point: Point) -> Sheet:
        """Shows the picture and the training images that differ from it the least, pixel by pixel."""
        (image,) = self.draw([point])
        with self._lock:
            dataset, indices, reals = self._reals
        query = compared(image[None]).astype(np.float32)
        blocks = np.array_split(reals, -(-len(reals) // 1024))
        apart = np.concatenate([np.mean((block - query) ** 2, axis=1) for block in blocks]) ** 0.5
        nearest = np.argsort(apart, kind="stable")[:NEIGHBOURS]
        found, _ = read(dataset, indices[nearest])
        tiles = [Tile(real, f"{apart[i]:.0f} apart", {}) for real, i in zip(found, nearest)]
        note = f"The picture, and those of {len(reals):,} training images whose pixels, 0 to 255, differ the least."
        return Sheet([Tile(image, "this", {}), *tiles], note)

    @functools.cached_property
    def _reals(self) -> tuple[Dataset, np.ndarray, np.ndarray]:
        """Returns the training images, which of them are searched, and what is compared of these."""
        dataset = self._open_reals()
        indices = evenly_spaced(len(dataset), SEARCHED)
        parts = [compared(read(dataset, part)[0]) for part in np.array_split(indices, -(-len(indices) // 1024))]
        return dataset, indices, np.concatenate(parts)


def compared(images: np.ndarray) -> np.ndarray:
    """Returns images, uint8 [n, H, W, C], as vectors uint8 [n, d]: their pixels, or means of them in large images.

    Example:
      >>> compared(np.zeros((2, 8, 8, 3), np.uint8)).shape, compared(np.zeros((2, 128, 64, 3), np.uint8)).shape
      ((2, 192), (2, 1536))
    """
    n, height, width, channels = images.shape
    factor = -(-max(height, width) // COMPARED)
    rows, columns = max(1, height // factor), max(1, width // factor)
    images = images[:, : rows * factor, : columns * factor]
    means = images.reshape(n, rows, factor, columns, factor, channels).mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8).reshape(n, -1)
