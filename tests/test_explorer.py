"""The explorer: each picture is the one that its controls say, is made once, and is on the page that asks for it."""

import dataclasses
import functools
import io
import re
import socket
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxgan
from jaxgan.commands import explore as command
from jaxgan.core.errors import ConfigError
from jaxgan.data import DataSpec
from jaxgan.models.layers import BaseGenerator
from jaxgan.sampling.directions import semantic_directions
from jaxgan.sampling.generator import Generator
from jaxgan.sampling.pictures import save_png
from jaxgan.sharing import page, server
from jaxgan.sharing.explorer import BATCH, STEPS, Explorer, Point
from jaxgan.sharing.sheets import Sheets
from jaxgan.sharing.training_images import TrainingImages
from tests.helpers import KEY, StyledGenerator, random_keys


class PlainGenerator(BaseGenerator):
    """Has a dense layer and a table of classes, so that all that there is to explore compiles at once."""

    latent_layers = "dense"

    @nn.compact
    def __call__(self, z, labels, train, keys=None):
        x = nn.Dense(192, name="dense")(z) + nn.Embed(self.num_classes, 192, name="classes")(labels)
        return jnp.tanh(x).reshape(-1, 8, 8, 3)


NETS = {"plain": PlainGenerator(image_size=8, num_classes=3), "styled": StyledGenerator(image_size=8, num_classes=3)}
REALS = np.random.default_rng(0).integers(0, 256, (2000, 8, 8, 3), np.uint8)


def draw_latents(seed, z_dim, num_labels, index, bound=None):
    """Returns what `generator.draw_latents` does, from numpy, which compiles nothing."""
    draw = np.random.default_rng(seed)
    z = np.clip(draw.normal(size=(len(index), z_dim)), -(bound or 9), bound or 9).astype(np.float32)
    return z, draw.integers(0, num_labels, len(index), np.int32), random_keys(len(index), seed)


@pytest.fixture(scope="module")
def explorers():
    """An explorer of a generator without styles and of one with them."""
    draw, found = np.random.default_rng(0), {}
    for name, net in NETS.items():
        init = functools.partial(net.init, train=False)
        shapes = jax.eval_shape(init, KEY, jnp.zeros((1, 8)), jnp.zeros(1, int), keys=random_keys(1))
        variables = jax.tree.map(lambda leaf: 0.3 * draw.normal(size=leaf.shape).astype(np.float32), shapes)
        generator = Generator(net, variables, z_dim=8, batch_size=1, data=DataSpec(8, 3, 3, 2000, "", ("a", "b", "c")))
        found[name] = Explorer(generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxgan.sampling.generator._draw_latents", draw_latents)
        yield found


@pytest.fixture(params=NETS)
def explorer(request, explorers):
    return explorers[request.param]


def draw(explorer: Explorer, *values, **named) -> np.ndarray:
    (image,) = explorer.draw([Point(*values, **named)])
    return image.astype(int)


@pytest.mark.parametrize(("label", "truncation"), [(None, None), (2, None), (None, 1.0)])
def test_a_picture_is_the_first_sample_of_its_seed(label, truncation, explorers):
    (expected,) = explorers["plain"].generator.sample(1, 5, label, truncation)
    found = draw(explorers["plain"], 5, -1 if label is None else label, truncation=truncation)
    np.testing.assert_array_equal(found, expected)


def test_mixtures_and_walks_end_where_they_say(explorer):
    assert abs(draw(explorer, 3, 0, 1, 1.0) - draw(explorer, 3, 1)).max() <= 1
    between = draw(explorer, 3, 0, 1, 0.5)
    assert abs(between - draw(explorer, 3, 0)).max() > 2
    assert abs(between - draw(explorer, 3, 1)).max() > 2
    latents = explorer.generator.latents
    (end, *_), (_, _, noise) = latents(1, 4), latents(1, 3)
    (expected,) = explorer.generator.generate(end, np.array([2]), noise)
    assert abs(draw(explorer, 3, 2, to=4, way=1.0) - expected).max() <= 1


def test_a_walk_without_a_class_ends_in_that_of_the_second_seed(explorer):
    latents = explorer.generator.latents
    (_, first, noise), (end, second, _) = latents(1, 3), latents(1, 5)
    assert first != second
    (expected,) = explorer.generator.generate(end, second, noise)
    assert abs(draw(explorer, 3, to=5, way=1.0) - expected).max() <= 1
    assert abs(draw(explorer, 3, int(first[0]), to=5, way=1.0) - expected).max() > 2


def test_moves_go_along_the_semantic_directions(explorers):
    generator = explorers["plain"].generator
    directions, _ = semantic_directions(generator, 6)
    z, label, key = generator.latents(1, 7)
    (expected,) = generator.generate(z + 1.5 * directions[0] - 3.0 * directions[5], label, key)
    assert abs(draw(explorers["plain"], 7, moves=(1.5, 0.0, 0.0, 0.0, 0.0, -3.0)) - expected).max() <= 1
    assert explorers["styled"].num_directions == 0  # its class does not say where styles enter
    assert "Directions" not in Sheets(explorers["styled"]).names


def test_what_has_no_effect_draws_nothing_again(explorer, monkeypatch):
    explorer.draw([Point(11)])
    monkeypatch.setattr(explorer, "_make", None)  # which would fail
    same = [
        Point(11, -1, 2, 0.0),
        Point(11, -1, -1, 0.5),
        Point(11, truncation=explorer.no_truncation),
        Point(11, to=12, way=0.0),
        Point(11, to=11, way=0.7),
        Point(11, moves=(0.0,) * 6),
    ]
    assert len({image.tobytes() for image in explorer.draw(same)}) == 1


def test_pictures_that_are_new_are_made_together(explorers, monkeypatch):
    explorer = explorers["plain"]
    explorer.draw([Point(seed) for seed in (20, 23)])
    made, make = [], explorer._make
    monkeypatch.setattr(explorer, "_make", lambda points: made.append(len(points)) or make(points))
    explorer.draw([Point(seed) for seed in range(20, 26)])
    explorer.draw([Point(seed) for seed in range(20, 26)])
    assert made == [4]


@pytest.mark.parametrize("name", ["Seeds", "Walk", "Directions"])
def test_a_click_on_a_picture_goes_there(name, explorers):
    explorer = explorers["plain"]
    now = Point(14, 1, 2, 0.25, 1.5, 3, 0.4, moves=(0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    sheet = Sheets(explorer).make(name, now)
    expected = {
        "Seeds": [now._replace(seed=seed, way=0.0, moves=()) for seed in range(12, 24)],
        "Walk": [now._replace(way=round(i / 11, 2)) for i in range(12)],
        "Directions": [
            now._replace(moves=(*now.moves[:i], 3.0 * share, *now.moves[i + 1 :]))
            for share in (-1.0, -0.5, 0.5, 1.0)
            for i in range(6)
        ],
    }[name]
    assert [tile.point for tile in sheet.tiles] == expected


def test_a_click_on_a_second_seed_changes_the_end_of_the_walk_only(explorer):
    now = Point(5, to=14, way=0.5)
    tile = Sheets(explorer).make("Second seeds", now).tiles[3]
    assert tile.point == now._replace(to=15)
    np.testing.assert_array_equal(tile.image, explorer.draw([Point(15)])[0])


def test_styles_of_a_second_seed_in_some_layers(explorers):
    explorer = explorers["styled"]
    assert explorer.num_styles == 2
    (first, label, keys), (second, *_) = explorer.generator.latents(1, 3), explorer.generator.latents(1, 4)
    first, second = (np.asarray(explorer.generator.styles(z, label)) for z in (first, second))
    (expected,) = explorer.generator.generate(np.stack([second[:, 0], first[:, 1]], axis=1), label, keys)
    assert abs(draw(explorer, 3, to=4, until=1) - expected).max() <= 1
    assert abs(draw(explorer, 3, to=4) - expected).max() > 2
    sheet = Sheets(explorer).make("Styles", Point(3))
    assert [tile.caption for tile in sheet.tiles][::6] == ["coarse, 0", "middle, 0", "fine, 0"]
    assert sheet.tiles[-1].caption == "fine, 6"
    assert sheet.tiles[-1].point[-4:-1] == (0, 1, 2)
    assert "Styles" not in Sheets(explorers["plain"]).names


def test_what_is_found_for_a_picture_is_where_walks_start(explorer, tmp_path):
    image = draw(explorer, 77, 1).astype(np.uint8)
    save_png(tmp_path / "mine.png", image)
    np.testing.assert_array_equal(explorer.read(tmp_path / "mine.png"), image)
    *found, (number, step, last) = explorer.project(image, 1, steps=60)
    assert last.distances[0] < found[0][2].distances[0]
    assert step == 60
    np.testing.assert_array_equal(draw(explorer, 0, start=number), last.images[0])
    assert abs(draw(explorer, 0, 1, to=4, way=1.0, start=number) - last.images[0]).max() > 2
    moved = draw(explorer, 9, start=number, moves=(1.0,) * explorer.num_directions)
    assert (abs(moved - last.images[0]).max() > 2) == (explorer.num_directions > 0)
    with pytest.raises(ConfigError, match="start=99: choose one of the"):
        draw(explorer, 0, start=99)


def test_arrays_are_what_makes_the_pictures_again(explorer):
    points = [Point(3, 1), Point(4, 1, to=5, way=0.3), Point(6, 0, 1, 0.5 * explorer.generator.has_styles)]
    arrays = explorer.arrays(points)
    again = explorer.generator.generate(arrays["latents"], arrays["labels"], jax.random.wrap_key_data(arrays["keys"]))
    assert abs(again.astype(int) - arrays["images"]).max() <= 1


def test_a_film_goes_there_and_back(explorers):
    film = explorers["plain"].film(Point(3, to=4), 8)
    frames = list(film.frames)
    assert len(frames) == film.count == 118
    np.testing.assert_array_equal(frames[59], explorers["plain"].draw([Point(3, to=4, way=1.0)])[0])
    np.testing.assert_array_equal(frames[60:], frames[58:0:-1])


def test_the_training_image_that_is_the_picture_is_the_nearest(explorers):
    explorer, reals = explorers["plain"], REALS.copy()
    (image,) = explorer.draw([Point(2)])
    reals[1234] = image  # as if it had been learnt by heart
    sheets = Sheets(explorer, TrainingImages(lambda: jaxgan.ArrayDataset(reals)))
    assert sheets.needs_reading("Training images")
    said = list(sheets.reals.read())
    assert said == [
        "Opening the training images ...",
        *(f"Reading 2,000 training images, once: {i} ..." for i in ("0%", "50%")),
    ]
    assert not sheets.needs_reading("Training images")
    sheet = sheets.make("Training images", Point(2))
    np.testing.assert_array_equal(sheet.tiles[0].image, image)
    assert [tile.caption for tile in sheet.tiles[:2]] == ["this", "0 apart"]
    assert int(sheet.tiles[2].caption.split()[0]) > 10
    assert "2,000 training images" in sheet.note


def test_pictures_are_enlarged_without_interpolation(explorers):
    image = explorers["plain"].draw([Point(0)])[0]
    large = explorers["plain"].enlarged(image, 512)
    assert large.shape == (512, 512, 3)
    np.testing.assert_array_equal(large[::64, ::64], image)
    np.testing.assert_array_equal(large[63::64, 63::64], image)


@pytest.mark.parametrize(
    ("point", "line"),
    [
        (Point(-1), "seed=-1: must be a whole number"),
        (Point(None), "seed=None: must be a whole number"),
        (Point(0, to=2**31, way=0.5), "seed=2147483648: must be a whole number"),
        (Point(0, 3), r"labels=\[3, 3\]: give integers or names"),
        (Point(0, 0, -2, 0.5), r"labels=\[0, -2\]"),
        (Point(0, truncation=-1.0), "truncation=-1.0: the bound must be"),
    ],
)
def test_wrong_values(point, line, explorers):
    with pytest.raises(ConfigError, match=line):
        explorers["plain"].draw([point])


def test_sheets_that_cannot_be(explorers):
    with pytest.raises(ConfigError, match="second seed=4: a walk ends at another seed"):
        Sheets(explorers["plain"]).make("Walk", Point(4, to=4))
    with pytest.raises(ConfigError, match="sheet='Films': choose one of Seeds, Second seeds, Walk"):
        Sheets(explorers["plain"]).make("Films", Point(4))


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert command.main(["runs/mine"]) == 2
    expected = "error: --workdir='runs/mine': to explore it needs pip install 'jaxgan[explore]'\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing"], "--workdir='nothing': no checkpoint in "),
        (["nothing", "--host=192.0.2.1"], "--host='192.0.2.1': is no address of this machine ("),
        (["nothing", "--host=no such host"], "--host='no such host': is no address of this machine ("),
        (["nothing", "--host=..", "--port=7860"], "--host='..': is no address of this machine ("),
    ],
)
def test_wrong_requests(arguments, line, monkeypatch, capsys):
    """They need neither a model nor a page; 192.0.2.1 is no machine's, but for documentation (RFC 5737)."""
    monkeypatch.setattr(server, "import_gradio", lambda path: None)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}")
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of libraries that only the page imports
def test_the_page_answers(explorers, monkeypatch, tmp_path):
    """Pictures over HTTP are those of the explorer; a wrong value is a message, and so is a port that is taken."""
    gradio_client = pytest.importorskip("gradio_client", reason="the extra explore is not installed")
    pytest.importorskip("gradio", reason="the extra explore is not installed")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    explorer = explorers["plain"]
    config = jaxgan.config("numerals")
    monkeypatch.setattr(explorer, "generator", dataclasses.replace(explorer.generator, config=config))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"port=\d+: is taken"):
            server.serve(Sheets(explorer), "mine", taken.getsockname()[1])
        free = taken.getsockname()[1]
    blocks, address = server.serve(Sheets(explorer), "mine", free)
    assert address == f"http://127.0.0.1:{free}/"
    try:
        client = gradio_client.Client(f"http://127.0.0.1:{free}", verbose=False)
        values = [5, 1, -1, 0.5, 3, 1, 0, 0, 0, 0, 1.5, 0, 0, 0, 0, 0]
        picture = np.asarray(Image.open(client.predict(*values, api_name="/draw")))
        (expected,) = explorer.draw([Point(5, 1, moves=(1.5, 0, 0, 0, 0, 0))])
        np.testing.assert_array_equal(picture, explorer.enlarged(expected, page.LARGE))
        tiles, note = client.predict("Walk", *values, api_name="/sheet")
        assert [tile["caption"] for tile in tiles][::11] == ["0%", "100%"]
        assert note == "The walk from seed 5 to seed 1."
        _, note = client.predict("Walk", -5, *values[1:], api_name="/sheet")
        assert note == "seed=-5: must be a whole number in 0 .. 2147483647"
        assert client.predict(*values, api_name="/draw")
        (tmp_path / "text.png").write_text("no picture")
        found = client.predict(gradio_client.handle_file(tmp_path / "text.png"), -1, api_name="/find")
        assert found == (None, "text.png is no picture that can be read: its format is not known")
    finally:
        blocks.close(verbose=False)


@pytest.fixture
def open_explorer(browser, monkeypatch, tmp_path):
    """Serves an explorer and opens its page; what is fetched elsewhere, and errors in it, make the test fail."""
    pytest.importorskip("gradio", reason="the extra explore is not installed")
    said, closing = [], []
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    def open_page(explorer, **options):
        monkeypatch.setattr(
            explorer, "generator", dataclasses.replace(explorer.generator, config=jaxgan.config("numerals"))
        )
        blocks, address = server.serve(Sheets(explorer), "mine", **options)
        context = browser.new_context(accept_downloads=True)
        closing.extend((context.close, functools.partial(blocks.close, verbose=False)))
        opened = context.new_page()
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        opened.on("request", lambda request: said.append(request.url) if "://127.0.0.1:" not in request.url else None)
        opened.goto(address)
        opened.locator("#sheet img").last.wait_for()
        return opened

    yield open_page
    for close in closing:
        close()
    assert [line for line in said if not line.startswith(("blob:", "data:"))] == []


def shown(opened) -> np.ndarray:
    """Returns the large picture, as the browser has it."""
    address = opened.locator("#picture img").get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(opened.request.get(address).body())).convert("RGB")).astype(int)


def expect_shown(opened, explorer: Explorer, point: Point) -> None:
    (expected,) = (explorer.enlarged(image, page.LARGE) for image in explorer.draw([point]))
    for _ in range(100):
        if np.array_equal(shown(opened), expected):
            return
        opened.wait_for_timeout(100)
    np.testing.assert_array_equal(shown(opened), expected)


def move(opened, label: str, value) -> None:
    """Moves a slider, or changes a number."""
    control = opened.get_by_role("spinbutton", name=re.compile(f"^(number input for )?{label}$"))
    control.fill(str(value))
    control.press("Tab")


def save(opened, kind: str):
    """Saves what is seen and returns the file."""
    opened.locator("#save input").click()
    opened.get_by_role("option", name=kind, exact=True).click()
    with opened.expect_download() as download:
        opened.locator("#save button", has_text="Save").click()
    return download.value.path(), download.value.suggested_filename


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of libraries that only the page imports
def test_a_person_drives_the_explorer(open_explorer, explorers):
    """Seeds, a walk, styles, what is saved, and an uploaded picture, in a real browser."""
    explorer = Explorer(explorers["styled"].generator)  # nobody else's pictures were found
    opened = open_explorer(explorer)
    expect_shown(opened, explorer, Point(0))
    move(opened, "Walk", 0.5)
    expect_shown(opened, explorer, Point(0, to=1, way=0.5))
    opened.get_by_role("radio", name="Second seeds").check()
    opened.locator("#note", has_text="makes one of them the second").wait_for()
    opened.locator("#sheet button.thumbnail-item").nth(4).click()
    expect_shown(opened, explorer, Point(0, to=4, way=0.5))
    move(opened, "Second seed", -4)
    opened.locator("#note", has_text="seed=-4: must be a whole number in 0 .. 2147483647").wait_for()
    move(opened, "Second seed", 4)
    move(opened, "Walk", 0)
    move(opened, "to layer", 1)
    expect_shown(opened, explorer, mixed := Point(0, to=4, until=1))

    path, name = save(opened, "Picture (PNG)")
    assert name == "seed_0.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), shown(opened))
    path, name = save(opened, "Pictures, latents and labels (npz)")
    assert name == "seed_0.npz"
    with np.load(path) as saved:
        assert saved["latents"].shape == (1 + BATCH, 2, 16)
        np.testing.assert_array_equal(saved["images"][0], explorer.draw([mixed])[0])
    path, name = save(opened, "Walk (WebP)")
    with Image.open(path) as film:
        assert name == "seed_0.webp"
        assert 1 < film.n_frames <= 118  # equal ones are one

    opened.locator("#yours button").first.click()
    buffer = io.BytesIO()
    Image.fromarray(explorer.draw([Point(33)])[0]).save(buffer, "PNG")
    opened.locator("#yours input[type=file]").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    opened.locator("#yours img").first.wait_for()
    opened.get_by_role("button", name="Find the nearest").click()
    opened.locator("#progress", has_text=f"Step {STEPS} of {STEPS}").wait_for()
    opened.locator("#pair img").wait_for()
    expect_shown(opened, explorer, Point(0, to=4, start=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_away_from_this_machine_there_is_a_token(open_explorer, explorers, monkeypatch):
    monkeypatch.setattr(server, "_is_loopback", lambda host: False)
    opened = open_explorer(explorers["plain"], host="127.0.0.1")
    expect_shown(opened, explorers["plain"], Point(0))
    assert "token" not in opened.url  # it is a cookie now
    for wrong in ("", "?token=", "?token=wrong"):
        answer = opened.context.browser.new_context().request.get(opened.url + wrong)
        assert (answer.status, "token" in answer.text()) == (401, True)
