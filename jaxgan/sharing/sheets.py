"""What the explorer shows beside a picture: sheets of other pictures, and what a click on one sets."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgan.core.errors import lookup, require_whole
from jaxgan.sharing.explorer import BATCH, EXTENT, Explorer, Point
from jaxgan.sharing.training_images import TrainingImages

SHARES = (-1.0, -0.5, 0.5, 1.0)  # of the extent, in the sheet of directions
NEIGHBOURS, MIXED = 5, 6  # training images, and second seeds in the sheet of styles
SCALES = ("coarse", "middle", "fine")


class Tile(NamedTuple):
    """A picture of a sheet, and where a click on it goes."""

    image: np.ndarray  # uint8 [H, W, C]
    caption: str
    point: Point | None = None  # None: nowhere


class Sheet(NamedTuple):
    """Pictures beside that of a point, and what they are."""

    tiles: list[Tile]
    note: str


class Sheets:
    """Makes the sheets of an explorer; `reals` are the images that its generator was trained on, if they are here."""

    def __init__(self, explorer: Explorer, reals: TrainingImages | None = None):
        self.explorer, self.reals = explorer, reals
        self._all: dict[str, Callable[[Point], Sheet]] = {
            "Seeds": self._seeds,
            "Second seeds": self._second_seeds,
            "Walk": self._walk,
            **({"Styles": self._mixtures} if explorer.num_styles > 1 else {}),
            **({"Directions": self._traversals} if explorer.num_directions else {}),
            **({"Training images": self._neighbours} if reals else {}),
        }

    @property
    def names(self) -> list[str]:
        return list(self._all)

    def needs_reading(self, name: str) -> bool:
        """Whether a sheet takes long the first time, as the training images are read for it (`reals.read`)."""
        return name == "Training images" and self.reals is not None and not self.reals.is_read

    def make(self, name: str, point: Point) -> Sheet:
        """Returns the sheet of a name beside a point."""
        return lookup(self._all, name, "sheet")(point)

    def _draw(self, points: list[Point], captions: list[str], goals: list[Point] | None = None) -> list[Tile]:
        images = self.explorer.draw(points)
        return [Tile(*tile) for tile in zip(images, captions, goals or points, strict=True)]

    def _seeds(self, point: Point) -> Sheet:
        """Shows the page of seeds that this one is on."""
        seeds = _page("seed", point.seed)
        points = [_still(point)._replace(seed=seed) for seed in seeds]
        return Sheet(self._draw(points, [f"{seed}" for seed in seeds]), f"The pictures of {_named(seeds)}.")

    def _second_seeds(self, point: Point) -> Sheet:
        """Shows the page of seeds that the second one is on."""
        seeds = _page("second seed", point.to)
        points = [_still(point)._replace(seed=seed) for seed in seeds]
        tiles = self._draw(points, [f"{seed}" for seed in seeds], [point._replace(to=seed) for seed in seeds])
        return Sheet(tiles, f"The pictures of {_named(seeds)}; a click makes one of them the second.")

    def _walk(self, point: Point) -> Sheet:
        """Shows the whole way from the start to the second seed."""
        self.explorer.check_walk(point)
        ways = [round(i / (BATCH - 1), 2) for i in range(BATCH)]
        tiles = self._draw([point._replace(way=way) for way in ways], [f"{way:.0%}" for way in ways])
        start = "the uploaded picture" if point.start else f"seed {point.seed}"
        return Sheet(tiles, f"The walk from {start} to seed {point.to}.")

    def _mixtures(self, point: Point) -> Sheet:
        """Shows the picture with coarse, middle and fine styles of several second seeds, a row each."""
        count = self.explorer.num_styles
        ends = [0, round(count / 3), round(2 * count / 3), count]
        seeds = [seed for seed in range(point.to, point.to + MIXED + 1) if point.start or seed != point.seed][:MIXED]
        rows = [(name, *part, seed) for name, part in zip(SCALES, itertools.pairwise(ends)) for seed in seeds]
        points = [point._replace(to=seed, first=first, until=until) for _, first, until, seed in rows]
        tiles = self._draw(points, [f"{name}, {seed}" for name, _, _, seed in rows])
        return Sheet(
            tiles, "The picture with coarse (shapes), middle and fine (colours) styles of other seeds, in rows."
        )

    def _traversals(self, point: Point) -> Sheet:
        """Shows a direction in each column, from one end to the other, with the other directions as they are."""
        places = range(self.explorer.num_directions)
        now = point.moves or (0.0,) * len(places)
        moves = [(i, share * EXTENT) for share in SHARES for i in places]
        points = [point._replace(moves=(*now[:i], move, *now[i + 1 :])) for i, move in moves]
        return Sheet(
            self._draw(points, [f"{i + 1}: {move:+g}" for i, move in moves]),
            f"The picture moved along a direction in each column, by {-EXTENT:g} above, {EXTENT:g} below.",
        )

    def _neighbours(self, point: Point) -> Sheet:
        """Shows the picture and the training images that differ from it the least, pixel by pixel."""
        (image,) = self.explorer.draw([point])
        found, apart, count = self.reals.nearest(image, NEIGHBOURS)
        tiles = [Tile(real, f"{distance:.0f} apart") for real, distance in zip(found, apart)]
        note = f"The picture, and those of {count:,} training images whose pixels, 0 to 255, differ the least."
        return Sheet([Tile(image, "this"), *tiles], note)


def _page(setting: str, seed: int) -> range:
    """Returns the seeds that are shown together with one."""
    require_whole(setting, seed, 0, 2**31 - 1)
    first = seed - seed % BATCH
    return range(first, min(first + BATCH, 2**31))


def _named(seeds: range) -> str:
    return f"the seeds {seeds[0]} to {seeds[-1]}"


def _still(point: Point) -> Point:
    """Returns a point as its seed has it, without walks, styles of others and moves."""
    return point._replace(start=0, way=0.0, first=0, until=0, moves=())
