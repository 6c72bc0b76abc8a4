"""Films: walks through latents and classes, and the grids of a run over its training, two frames at a time."""

import dataclasses
import functools
import itertools
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgan.core.errors import ConfigError, require, require_finite, require_whole
from jaxgan.core.files import as_path
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.interpolation import lerp, slerp
from jaxgan.sampling.pictures import read_picture, show_grid

SUFFIXES = (".mp4", ".webp", ".gif")
MOST_FRAMES = 100_000  # an hour at 28 a second


class Film(NamedTuple):
    """Frames, uint8 [H, W, 3] and all of one size, of which each is made when it is asked for."""

    frames: Iterator[np.ndarray]
    count: int
    fps: float


def walk(
    generator: Generator, loop: int = 8, columns: int = 0, *, seconds=10.0, fps=30.0, seed=0, labels=None,
    truncation=None, space="z",
) -> Film:  # fmt: skip
    """Returns a film of columns x columns samples that each pass through `loop` latents and come back to the first.

    Args:
      generator: what makes the images.
      loop: latents that a sample passes through, at least 2 (or 1, with two classes or more).
      columns: samples in a row, and rows (0: 4, or 1 of images above 128 pixels).
      seconds: length of the film.
      fps: frames a second.
      seed: of the latents; those of another seed are others.
      labels: classes that all samples pass through at even distances, the first one last; None: each has its own.
      truncation: as in `Generator.sample`.
      space: "z", along great circles, or "w", along straight lines of styles, in which classes also mix best.
    """
    require_whole("loop", loop, 1)
    require_whole("columns", columns)
    require(space == "z" or (space == "w" and generator.has_styles), "space", space, "choose z, or w for styles")
    count = _count(seconds, fps)
    columns = columns or (4 if max(generator.image_shape[:2]) <= 128 else 1)
    walkers = columns * columns
    points, drawn, keys, psi = generator.inputs(loop * walkers, seed, None, truncation)
    points = points.reshape(loop, walkers, -1)
    classes = None if labels is None else np.atleast_1d(generator.check_labels(labels))
    right = "a film needs two latents, or one and two classes"
    require(loop > 1 or (classes is not None and len(classes) > 1), "loop", loop, right)
    generator = dataclasses.replace(generator, batch_size=walkers)

    def draw(position: float, classes_position: float) -> np.ndarray:
        """Returns the images at a place between two points, and one between two classes."""
        (a, b), part = _between(loop, position)
        (c, d), share = _between(1 if classes is None else len(classes), classes_position)
        here = generator
        first = drawn[:walkers] if classes is None else jnp.full(walkers, classes[c])
        if space == "w":
            second = first if classes is None else jnp.full(walkers, classes[d])
            ends = [
                lerp(generator.styles(z, first, psi), generator.styles(z, second, psi), share)
                for z in (points[a], points[b])
            ]
            latents = lerp(*ends, part)
        else:
            latents = slerp(points[a], points[b], jnp.float32(part)) if a != b else points[a]
            if share:
                mixed = mix_classes(generator.variables, generator.num_classes, classes[c], classes[d], share)
                here = dataclasses.replace(generator, variables=mixed)
        return here.generate(latents, first, keys[:walkers], psi)

    def frames() -> Iterator[np.ndarray]:
        for i in range(count):
            here = i / count
            images = draw(here * loop, 0.0 if classes is None else here * len(classes))
            yield show_grid(images, columns, generator.config.data.name if generator.config else "")

    return Film(frames(), count, fps)


def _between(points: int, position: float) -> tuple[tuple[int, int], float]:
    """Returns the two of a ring of points that a position is between, and how far it is from the first."""
    first = math.floor(position) % points
    return (first, (first + 1) % points), position - math.floor(position)


def mix_classes(variables: dict, num_classes: int, first: int, second: int, share: float) -> dict:
    """Returns variables of a generator in which class `first` is (1 - share) of it and `share` of `second`.

    Mixed are the rows of all tables of classes: embeddings, and layers that are called classes.

    Raises:
      ConfigError: the generator has no such table.
    """
    mixed, found = {}, False
    for path, value in traverse_util.flatten_dict(variables).items():
        axes = [axis for axis in (0, -1) if value.ndim == 2 and value.shape[axis] == num_classes]
        if axes and (path[-1] == "embedding" or "classes" in path):
            value, found = _mix_rows(axes[0], value, first, second, share), True
        mixed[path] = value
    require(found, "labels", [int(first), int(second)], "this generator has no table of classes to mix")
    return traverse_util.unflatten_dict(mixed)


@functools.partial(jax.jit, static_argnums=0)
def _mix_rows(axis: int, table: jax.Array, first, second, share) -> jax.Array:
    rows = jnp.moveaxis(table, axis, 0)
    return jnp.moveaxis(rows.at[first].set(lerp(rows[first], rows[second], share)), 0, axis)


def timelapse(workdir, *, seconds=10.0, fps=30.0, images_per_step: int = 0) -> Film:
    """Returns a film of the grids that a run has drawn, with kimg and step in a corner.

    The newest one stays for a second longer, or half of the film if that is less.

    Args:
      workdir: a run.
      seconds, fps: as in `walk`.
      images_per_step: real images in a step of the run; 0: show kimg only.

    Raises:
      ConfigError: the run has drawn no two grids of one size.
    """
    count, samples = _count(seconds, fps), as_path(workdir, "workdir", local=True) / "samples"
    paths = sorted(samples.glob("*kimg.png"))
    size = _size(paths[-1]) if paths else None
    paths = [path for path in paths if _size(path) == size]
    require(len(paths) > 1, "workdir", str(workdir), "holds no two grids of samples (samples/*kimg.png)")
    moving = count - min(round(fps), count // 2)
    shown = np.minimum(np.arange(count) * len(paths) // moving, len(paths) - 1)

    def frames() -> Iterator[np.ndarray]:
        for i in shown:
            kimg = float(paths[i].stem.removesuffix("kimg"))
            step = f"step {round(1e3 * kimg / images_per_step):,} \u00b7 " if images_per_step else ""
            yield _labelled(paths[i], f"{step}{kimg:,.1f} kimg")

    return Film(frames(), count, fps)


def _count(seconds: float, fps: float) -> int:
    require_finite("seconds", seconds, 0.0)
    require_finite("fps", fps, 1.0)
    right = f"makes {seconds * fps:.3g} frames at {fps:g} a second; at most {MOST_FRAMES:,} are made"
    require(seconds * fps <= MOST_FRAMES, "seconds", seconds, right)
    return max(2, round(seconds * fps))


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def _labelled(path: Path, text: str) -> np.ndarray:
    """Returns a picture with a text in its lower right corner."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(read_picture(path))
    font = ImageFont.load_default(max(12, image.height // 32))
    draw = ImageDraw.Draw(image)
    left, top, right, _ = draw.textbbox((image.width - 6, image.height - 6), text, font=font, anchor="rs")
    draw.rectangle((left - 6, top - 5, right + 6, image.height), fill="black")
    draw.text((image.width - 6, image.height - 6), text, fill="white", font=font, anchor="rs")
    return np.asarray(image)


def check_suffix(path: str | os.PathLike, setting: str = "path", fps: float = 1.0) -> None:
    """Raises a ConfigError that names `setting`, or fps, unless `save_film` can write such a film there."""
    suffix = Path(path).suffix
    require(suffix in SUFFIXES, setting, str(path), f"a film is a FILE{', FILE'.join(SUFFIXES)}")
    right = "a .gif has at most 50 frames a second; .webp and .mp4 have more"  # faster, and browsers slow it to 10
    require(suffix != ".gif" or fps <= 50, "fps", fps, right)
    if suffix == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError:
            raise ConfigError(f"{setting}={str(path)!r}: needs pip install 'jaxgan[video]'; .webp does not") from None


def save_film(path: str | os.PathLike, film: Film) -> None:
    """Writes a film as the ending of the path says, .mp4, .webp or .gif; the directory is made if need be.

    Two frames are in memory at a time; of a .webp, which is written in the end, the compressed film too.

    Raises:
      ConfigError: another ending, .mp4 without the extra `video`, or .gif with more than 50 frames a second.
    """
    check_suffix(path, fps=film.fps)
    path = as_path(path, local=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        {".mp4": _write_mp4, ".webp": _write_webp, ".gif": _write_gif}[path.suffix](part, film)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_mp4(path: Path, film: Film) -> None:
    import imageio_ffmpeg

    first = next(film.frames)
    height, width = (side + side % 2 for side in first.shape[:2])  # H.264 halves the resolution of colours
    edges = [(0, height - first.shape[0]), (0, width - first.shape[1]), (0, 0)]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{film.fps:g}", "-i", "-"]
    target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-movflags", "+faststart", str(path)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *source, *target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            for frame in itertools.chain([first], film.frames):
                process.stdin.write(np.pad(frame, edges, mode="edge").tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it says why below
        problem = process.stderr.read().decode()
    if process.returncode:
        raise OSError(f"ffmpeg cannot write {path}: {problem.strip()}")


def _write_webp(path: Path, film: Film) -> None:
    from PIL import Image

    class Frames(Image.Image):
        """Makes each frame when Pillow moves to it; given a list, Pillow would hold all of them."""

        n_frames, _place = film.count, -1

        def seek(self, frame: int) -> None:
            if frame == self._place + 1:
                image = Image.fromarray(next(film.frames))
                self.im, self._size, self._mode, self._place = image.im, image.size, image.mode, frame

        def tell(self) -> int:
            return 0

    image = Frames()
    image.seek(0)
    image.save(path, "WEBP", save_all=True, duration=1e3 / film.fps, loop=0, quality=88, method=1)


def _write_gif(path: Path, film: Film) -> None:
    from PIL import GifImagePlugin, Image

    with path.open("wb") as file:
        for i, (frame, hundredths) in enumerate(_stills(film)):
            image = Image.fromarray(frame).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            if not i:
                file.write(b"".join(GifImagePlugin.getheader(image.copy(), info={"loop": 0})[0]))
            data = GifImagePlugin.getdata(image, duration=10 * hundredths, include_color_table=True)
            file.write(b"".join(data))
            data.clear()  # Pillow's own list
        file.write(b";")


def _stills(film: Film) -> Iterator[tuple[np.ndarray, int]]:
    """Yields equal frames in a row as one, and for how many hundredths of a second it is shown."""
    starts = [round(100 * i / film.fps) for i in range(film.count + 1)]
    first, still = 0, next(film.frames)
    for i, frame in enumerate(film.frames, 1):
        if starts[i] - starts[first] > 60_000 or not np.array_equal(frame, still):  # a GIF's durations have 16 bits
            yield still, starts[i] - starts[first]
            first, still = i, frame
    yield still, starts[film.count] - starts[first]
