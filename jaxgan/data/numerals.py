"""Numerals in colour, drawn from the fonts that come with Matplotlib."""

import functools
from pathlib import Path

import numpy as np

from jaxgan.core.errors import ConfigError, is_whole, require

SPLITS = {"train": 50_000, "test": 10_000}  # images in each split
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmss10",
    "cmtt10",
)
FIELD = 64  # pixels of a distance field
EXTENT = 0.8  # half the side of a field; a numeral is 1 high
AT_ONCE = 512  # images are drawn so many at a time


@functools.cache
def distance_fields() -> np.ndarray:
    """Returns the signed distance to the outline of each font's numerals, float32 [fonts, 10, FIELD, FIELD].

    Distances are positive in the ink and in units of the numeral's height; a field is [-EXTENT, EXTENT] to both sides
    of the numeral's centre. Glyphs kept so can be moved, sheared and thickened (Green 2007).
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont
    from scipy.ndimage import distance_transform_edt

    directory = Path(matplotlib.get_data_path(), "fonts", "ttf")
    finer = 4
    side = FIELD * finer
    height = side / (2 * EXTENT)
    fields = np.empty((len(FONTS), 10, FIELD, FIELD), np.float32)
    for f, name in enumerate(FONTS):
        probe = ImageFont.truetype(str(directory / f"{name}.ttf"), 200)
        _, top, _, bottom = probe.getbbox("0")
        font = ImageFont.truetype(str(directory / f"{name}.ttf"), round(200 * height / (bottom - top)))
        for numeral in range(10):
            left, top, right, bottom = font.getbbox(str(numeral))
            canvas = Image.new("L", (side, side))
            corner = (side - left - right) / 2, (side - top - bottom) / 2
            ImageDraw.Draw(canvas).text(corner, str(numeral), fill=255, font=font)
            ink = np.asarray(canvas) > 127
            distance = distance_transform_edt(ink) - distance_transform_edt(~ink)  # from centre to centre of pixels
            distance -= np.where(ink, 0.5, -0.5)  # the outline lies between them
            fields[f, numeral] = distance.reshape(FIELD, finer, FIELD, finer).mean(axis=(1, 3)) / height
    return fields


class Numerals:
    """The numerals 0 to 9 in many shapes and two colours each, a class for each numeral.

    An image has a font, a weight, a size, a slant, a turn, a place, and a colour of the ink and of the ground, all of
    which are drawn uniformly. Image i is always the same, whatever the seed of the run.

    Args:
      split: train (50,000 images) or test (10,000 other images).
      image_size: 16 to 128 pixels.
      setting: what `split` came from, for the error.
    """

    num_classes = 10
    class_names = tuple("0123456789")

    def __init__(self, split: str, image_size: int, setting: str = "split"):
        if split not in SPLITS:
            raise ConfigError(f"{setting}={split!r}: numerals has the splits {', '.join(SPLITS)}")
        right = "numerals takes 16 to 128 pixels"
        require(is_whole(image_size, 16, 128), "config.data.image_size", image_size, right)
        self.image_shape = (image_size, image_size, 3)
        self._fields = distance_fields()

        stream = [0x00E4A15, list(SPLITS).index(split)]  # never change: which images there are
        bits = np.random.Philox(key=np.array(stream, np.uint64)).random_raw(SPLITS[split] * 16)
        draws = (bits.reshape(-1, 16) >> np.uint64(40)).astype(np.float32) / 2**24  # uniform in [0, 1)
        self.labels = (10 * draws[:, 0]).astype(np.int32)
        self._fonts = (len(FONTS) * draws[:, 1]).astype(np.int32)
        self._weight = _between(-0.01, 0.03, draws[:, 2])  # added to both sides of a stroke
        size = _between(0.62, 0.8, draws[:, 3])  # of the image's side
        width = _between(0.85, 1.15, draws[:, 4])
        slant = _between(-0.1, 0.25, draws[:, 5])
        turn = _between(-0.15, 0.15, draws[:, 6])  # radians
        cos, sin = np.cos(turn), np.sin(turn)
        # From the image, [-0.5, 0.5] to both sides, to the numeral: turned back, sheared back, and scaled.
        x = np.stack([cos + slant * -sin, sin + slant * cos], axis=-1) / (size * width)[:, None]
        y = np.stack([-sin, cos], axis=-1) / size[:, None]
        self._maps = np.stack([x, y], axis=1)  # [N, 2, 2]
        self._scale = size
        self._centre = _between(-0.07, 0.07, draws[:, 7:9])
        ground = draws[:, 9]
        self._ground = _colour(ground, _between(0.55, 0.9, draws[:, 10]), _between(0.25, 0.6, draws[:, 11]))
        ink = ground + _between(0.15, 0.85, draws[:, 12])
        self._ink = _colour(ink, _between(0.1, 0.6, draws[:, 13]), _between(0.9, 1.0, draws[:, 14]))

    def __len__(self):
        return len(self.labels)

    def get(self, indices):
        parts = [self._draw(indices[i : i + AT_ONCE]) for i in range(0, len(indices), AT_ONCE)]
        empty = np.empty((0, *self.image_shape), np.uint8)
        return np.concatenate(parts or [empty]), self.labels[indices]

    def _draw(self, i: np.ndarray) -> np.ndarray:
        side = self.image_shape[0]
        pixels = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
        x = pixels - self._centre[i, :1]  # [n, W]
        y = pixels - self._centre[i, 1:]  # [n, H]
        maps = self._maps[i]
        places = [
            (maps[:, axis, 0, None, None] * x[:, None, :] + maps[:, axis, 1, None, None] * y[:, :, None])
            for axis in (0, 1)
        ]
        column, row = ((place / (2 * EXTENT) + 0.5) * FIELD - 0.5 for place in places)
        distance = _bilinear(self._fields, self._fonts[i], self.labels[i], row, column)
        distance = (distance + self._weight[i, None, None]) * self._scale[i, None, None] * side  # in pixels
        ink = np.clip(distance + 0.5, 0.0, 1.0)[..., None]
        ground, colour = self._ground[i, None, None], self._ink[i, None, None]
        return np.rint(255.0 * (ground + ink * (colour - ground))).astype(np.uint8)


def _between(low: float, high: float, draws: np.ndarray) -> np.ndarray:
    return np.float32(low) + np.float32(high - low) * draws


def _colour(hue, saturation, value) -> np.ndarray:
    """Returns colours of hues (which repeat after 1), saturations and values in 0..1 as RGB, float32 [N, 3]."""
    from matplotlib.colors import hsv_to_rgb

    return hsv_to_rgb(np.stack([hue % 1, saturation, value], axis=-1))


def _bilinear(fields, font, numeral, row, column) -> np.ndarray:
    """Returns each image's field at rows and columns float [n, H, W], which are those at the edge beyond it."""
    row, column = (np.clip(place, 0, FIELD - 1.001) for place in (row, column))
    top, left = row.astype(np.int32), column.astype(np.int32)
    down, right = row - top, column - left
    at = ((font * 10 + numeral)[:, None, None] * FIELD + top) * FIELD + left
    flat = fields.reshape(-1)
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + FIELD] * (1 - right) + flat[at + FIELD + 1] * right
    return upper * (1 - down) + lower * down
