"""Films: what their frames are, that they loop, and that a long one takes no more memory than a short one."""

import dataclasses
import pathlib
import resource
import subprocess

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

import jaxgan
from jaxgan.commands import sample
from jaxgan.sampling import films
from jaxgan.sampling.generator import render
from jaxgan.sampling.pictures import grid, save_png
from jaxgan.settings import to_json
from tests.helpers import tiny_generator

RESIDENT = pathlib.Path("/proc/self/statm")


def frames_of(path):
    with Image.open(path) as image:
        frames = []
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
        return frames, image.info


@pytest.mark.parametrize(("suffix", "error"), [(".webp", 25), (".gif", 20)])
def test_a_film_has_its_frames_in_order(tmp_path, suffix, error):
    smooth = [np.full((32, 48, 3), (40 * i, 200 - 30 * i, 100), np.uint8) for i in range(6)]
    films.save_film(tmp_path / f"a/film{suffix}", films.Film(iter(smooth), 6, 20.0))
    frames, info = frames_of(tmp_path / f"a/film{suffix}")
    assert len(frames) == 6
    assert info["loop"] == 0  # for ever
    for frame, expected in zip(frames, smooth):
        assert abs(frame - expected).max() <= error
    assert [path.name for path in (tmp_path / "a").iterdir()] == [f"film{suffix}"]


def test_a_gif_is_as_long_as_it_says(tmp_path):
    """A frame takes whole hundredths of a second: 3, 4, 3, ... at 30 a second."""
    films.save_film(tmp_path / "film.gif", films.Film((np.full((8, 8, 3), i, np.uint8) for i in range(30)), 30, 30.0))
    with Image.open(tmp_path / "film.gif") as image:
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(image)) == 1000


def test_a_gif_has_equal_frames_once(tmp_path):
    """They stay as long as all of them would, but for what 16 bits of hundredths cannot say, 655 seconds."""
    frames = (np.full((8, 8, 3), 40 * (i // 12), np.uint8) for i in [0] * 5 + [12] * 1000 + [24] * 3)
    films.save_film(tmp_path / "film.gif", films.Film(frames, 1008, 1.0))
    with Image.open(tmp_path / "film.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [5_000, 601_000, 399_000, 3_000]


def test_mp4(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra video is not installed")
    levels = [np.full((33, 47, 3), 40 * i, np.uint8) for i in range(6)]  # odd sides
    films.save_film(tmp_path / "film.mp4", films.Film(iter(levels), 6, 25.0))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(tmp_path / "film.mp4")]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    seen = np.frombuffer(raw, np.uint8).reshape(-1, 34, 48, 3)
    np.testing.assert_allclose(seen.mean(axis=(1, 2, 3)), [40 * i for i in range(6)], atol=3)


def test_a_film_that_fails_leaves_nothing(tmp_path):
    def frames():
        yield np.zeros((8, 8, 3), np.uint8)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        films.save_film(tmp_path / "film.gif", films.Film(frames(), 2, 10.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not RESIDENT.exists(), reason="only Linux tells how much memory is in use now")
@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_memory_is_flat(tmp_path, suffix):
    """Fifty frames of 3 MB would be 150 MB; the compressed ones of one colour are next to nothing."""
    seen = []

    def frames():
        for i in range(50):
            seen.append(int(RESIDENT.read_text().split()[1]) * resource.getpagesize())
            yield np.full((1024, 1024, 3), 4 * i, np.uint8)

    films.save_film(tmp_path / f"film{suffix}", films.Film(frames(), 50, 30.0))
    assert max(seen) - seen[0] < 75e6


def test_a_walk_begins_at_the_samples_and_comes_back():
    generator = tiny_generator("mlp")
    frames = list(films.walk(generator, 3, 2, seconds=1.0, fps=12.0, seed=5).frames)
    assert len(frames) == 12
    samples = generator.sample(12, seed=5).reshape(3, 4, 8, 8, 3)
    for point, frame in enumerate((0, 4, 8)):
        assert abs(frames[frame].astype(int) - grid(samples[point], 2)).max() <= 1  # a slerp rounds at its ends
    steps = [abs(a.astype(int) - b).mean() for a, b in zip(frames, [*frames[1:], frames[0]])]
    assert max(steps) < 4 * np.median(steps)  # also from the last to the first


def conditional(name, image_size):
    """Returns a generator whose classes differ; some tables begin with equal rows, some gains at zero."""
    generator = tiny_generator(name, image_size, num_classes=3)

    def apart(x):
        return x + 0.3 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)

    params = jax.tree.map(apart, generator.variables["params"])
    return dataclasses.replace(generator, variables={**generator.variables, "params": params})


@pytest.mark.parametrize(("name", "image_size"), [("dcgan", 16), ("r3gan2", 8)])
def test_a_walk_from_class_to_class(name, image_size):
    """One latent, two classes: at the ends it is what the generator makes of the class, in between neither."""
    generator = conditional(name, image_size)
    walk = films.walk(generator, 1, 1, seconds=1.0, fps=4.0, labels=[2, 0])
    frames = [frame.astype(int) for frame in walk.frames]
    for frame, label in ((0, 2), (2, 0)):
        assert abs(frames[frame] - grid(generator.sample(1, labels=label), 1)).max() <= 1
    assert abs(frames[1] - frames[0]).max() > 0
    assert abs(frames[1] - frames[2]).max() > 0
    np.testing.assert_allclose(frames[1], frames[3], atol=1)  # half-way there and half-way back


def test_mixed_classes_are_a_straight_line():
    generator = conditional("dcgan", 16)
    tables = {}
    for share in (0.0, 0.25, 1.0):
        mixed = films.mix_classes(generator.variables, 3, 1, 2, share)
        z, labels, keys = generator.latents(2)
        tables[share] = render(generator.module, mixed, z, labels * 0 + 1, keys)
    np.testing.assert_array_equal(tables[0.0], render(generator.module, generator.variables, z, labels * 0 + 1, keys))
    np.testing.assert_allclose(
        tables[1.0], render(generator.module, generator.variables, z, labels * 0 + 2, keys), atol=1e-6
    )
    with pytest.raises(jaxgan.core.errors.ConfigError, match="no table of classes"):
        films.mix_classes(tiny_generator("mlp").variables, 10, 0, 1, 0.5)


@pytest.fixture
def run(tmp_path):
    """Grids of a run, one of which is of another size."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text(to_json(jaxgan.config("digits")))
    for i, size in enumerate((64, 96, 96, 96)):
        save_png(workdir / f"samples/{64.0 * i:010.3f}kimg.png", np.full((size, 96, 3), 60 * i, np.uint8))
    return workdir


def test_a_timelapse(run):
    assert (
        sample.main([f"--workdir={run}", "--timelapse", "--out=" + str(run / "t.webp"), "--seconds=3", "--fps=2"]) == 0
    )
    with Image.open(run / "t.webp") as image:
        assert image.n_frames <= 6  # equal ones are one, which is shown longer
    film = films.timelapse(run, seconds=3.0, fps=2.0, images_per_step=64)
    levels = [frame[0, 0, 0] for frame in film.frames]
    assert levels == [60, 60, 120, 180, 180, 180]  # the last one a second longer
    assert film.count == len(levels)
    frames = list(films.timelapse(run, seconds=3.0, fps=1.0).frames)
    assert (frames[0] != 60).any()  # the words


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--out=x.webp"], "--out='x.webp': a film is of --interpolate or --timelapse"),
        (["--out=x.png", "--timelapse"], "--out='x.png': a film is of --interpolate or --timelapse"),
        (["--out=x.gif", "--sefa=3"], "--out='x.gif': a film is of"),
        (["--out=x.gif", "--timelapse", "--loop=3"], "--loop goes with --interpolate"),
        (["--out=x.gif", "--timelapse", "--seed=3"], "--seed means nothing with --timelapse"),
        (["--out=x.png", "--interpolate", "--fps=3"], "--fps goes with a film; --out=x.png is a picture"),
        (["--out=x.png", "--loop=3"], "--loop goes with a film and --interpolate; --out=x.png is a picture"),
        (["--out=x.gif", "--interpolate", "--num=3"], "--num goes with a picture; --out=x.gif is a film"),
        (["--out=x.gif", "--interpolate", "--steps=3"], "--steps goes with a picture and --invert; --out=x.gif is"),
        (["--out=x.gif", "--timelapse", "--fps=60"], "--fps=60.0: a .gif has at most 50 frames a second"),
        (["--out=x.png", "--extent=3"], "--extent goes with --sefa"),
        (["--out=x.png", "--per_class", "--labels=1"], "--labels means nothing with --per_class"),
        (["--out=x.gif", "--timelapse"], "--workdir='nowhere': no run is there"),
    ],
)
def test_wrong_requests(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sample.main(["--workdir=nowhere", *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_grid_that_cannot_be_read_is_named(run, capsys):
    *_, last = sorted((run / "samples").glob("*kimg.png"))
    last.write_bytes(last.read_bytes()[:100])
    assert sample.main([f"--workdir={run}", "--timelapse", f"--out={run}/t.gif"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {last}: is no picture that can be read: ")


@pytest.mark.parametrize("flag", ["--step=1", "--sigma_rel=0.1"])
def test_a_timelapse_loads_no_generator(run, flag, capsys):
    assert sample.main([f"--workdir={run}", "--timelapse", f"--out={run}/t.gif", flag]) == 2
    error = capsys.readouterr().err
    assert flag.partition("=")[0] in error
    assert "means nothing with --timelapse" in error


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (dict(loop=1), "loop=1: a film needs two latents"),
        (dict(seconds=-1.0), "seconds=-1.0"),
        (dict(seconds=1e12), "seconds=1000000000000.0: makes 3e\\+13 frames at 30 a second; at most 100,000 are made"),
        (dict(fps=0.0), "fps=0.0"),
        (dict(space="w"), "space='w'"),
        (dict(labels=[1]), "unconditional"),
    ],
)
def test_wrong_walks(changes, line):
    with pytest.raises(jaxgan.core.errors.ConfigError, match=line):
        films.walk(tiny_generator("mlp"), **changes)
