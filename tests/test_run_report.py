"""The report of runs: what is read from workdirs, and what a reader sees and does in a real browser."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

try:
    from playwright.sync_api import expect
except ImportError:
    expect = None  # `browser` skips these tests

import jaxgan
from jaxgan.commands import report as command
from jaxgan.commands import train
from jaxgan.core.files import sole_user
from jaxgan.data import DataSpec
from jaxgan.sampling.pictures import save_png, show_grid
from jaxgan.settings import to_json
from jaxgan.training.history import History
from jaxgan.training.log import MetricsLog, read_metrics
from jaxgan.training.report import frames, page
from jaxgan.training.report.contents import contents, nearest_config

NAMES = ("red", "green", "blue")
GRID, SIZE, FRAMES = 4, 8, 5
HELD_OUT = '{"scores": {"eval/fd_cifar": 3.456}, "protocol": {"held_out": {"images": 1000}}}'


def images(seed, count=GRID * GRID):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def make_run(workdir, seed=0, lr=2e-4, lines=60, data_name="cifar10", name="red"):
    """Writes what a run leaves behind, without checkpoints."""
    config = jaxgan.config("cifar_sngan")
    config.seed, config.train_kimg, config.sample.grid, config.data.name = seed, 640.0, GRID, data_name
    config.optim_g.lr = lr
    config.eval.metrics = ("fd_cifar",)
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(to_json(config))
    spec = DataSpec(SIZE, 3, len(NAMES), 50_000, "", (name, *NAMES[1:]))
    (workdir / "data.json").write_text(json.dumps(spec._asdict()))
    (workdir / "about.json").write_text(json.dumps({"generator": 1234, "discriminator": 5, "flops_per_image": 2.5e9}))
    log = MetricsLog(workdir)
    for i in range(1, lines + 1):
        line = {"kimg": 6.4 * i, "loss/d": 1.0 + 1.0 / i, "loss/g": float(i % 7), "perf/seconds": 300.0 + 10.0 * i}
        if i % 10 == 0:
            line |= {"eval/fd_cifar": abs(40 - i) + 1000 * lr + seed, "eval/fd_of_class_red_cifar": 7.0}
        log.scalars(i, line)
    log.warning(30, 6.4 * 30, "mode collapse: samples differ 0.2 times as much as reals.")
    log.close()
    titles = [NAMES[i % len(NAMES)] for i in range(GRID)]
    for i in range(FRAMES):
        save_png(workdir / "samples" / f"{64.0 * i:010.3f}kimg.png", show_grid(images(i), GRID, data_name, titles))
    save_png(workdir / "samples" / "reals.png", show_grid(images(99), GRID, data_name, titles))
    return workdir


def decode(uri):
    data = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


@pytest.mark.parametrize(("data_name", "titles"), [("cifar10", ()), ("cifar10", NAMES), ("stacked_digits", ())])
def test_cells_are_the_images_that_a_grid_was_drawn_of(tmp_path, data_name, titles):
    made = images(3, 12)
    save_png(tmp_path / "grid.png", show_grid(made, 3, data_name, titles))
    planes = 3 if data_name == "stacked_digits" else 1
    sprite = frames.read_cells(tmp_path / "grid.png", frames.Cells(3, SIZE, planes * SIZE))
    if planes == 3:
        made = made.transpose(0, 1, 3, 2).reshape(12, SIZE, 3 * SIZE, 1).repeat(3, axis=3)
    expected = made.reshape(4, 3, SIZE, planes * SIZE, 3).swapaxes(1, 2).reshape(4 * SIZE, -1, 3)
    np.testing.assert_array_equal(sprite, expected)
    assert frames.read_cells(tmp_path / "grid.png", frames.Cells(5, SIZE, planes * SIZE)) is None


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_picture_that_cannot_be_read_is_left_out(tmp_path, capsys, content):
    workdir = make_run(tmp_path / "run")
    path = workdir / "samples" / f"{128.0:010.3f}kimg.png"
    whole = path.read_bytes()
    for broken in (path, workdir / "neighbours.png"):
        broken.write_bytes(whole[: len(whole) // 2] if content is None else content)
    run = contents(workdir)
    assert [when for when, _ in run["grid"]["frames"]] == [0.0, 64.0, 192.0, 256.0]
    assert run["neighbours"] is None
    assert capsys.readouterr().err.count("; the report leaves it out") == 2


def test_frames_keep_within_their_budget_and_have_the_last(tmp_path):
    paths = [tmp_path / f"{i:03d}.png" for i in range(11)]
    for i, path in enumerate(paths):
        save_png(path, show_grid(images(i), GRID))
    cells = frames.Cells(GRID, SIZE, SIZE)
    everything = frames.choose(paths, cells, 1e6)
    assert [path for path, _ in everything] == paths
    one = len(everything[0][1])
    for budget in (8 * one, 3 * one, 1):
        chosen = frames.choose(paths, cells, budget)
        assert chosen[-1][0] == paths[-1]
        assert sum(len(picture) for _, picture in chosen) <= budget or len(chosen) == 1


def test_contents_of_a_run(tmp_path):
    run = contents(make_run(tmp_path / "run"))
    json.dumps(run, allow_nan=False)
    assert (run["name"], run["kimg"], run["total"], run["status"]) == ("run", 384.0, 640.0, "stopped")
    assert run["left"] == "6 min 40 s"  # at the speed so far, without what was before the first line
    assert run["config"].startswith("cifar_sngan with")
    (score,) = run["scores"]
    assert (score["best"], score["where"], score["last"]) == (pytest.approx(0.2), 256.0, pytest.approx(20.2))
    assert "10,000 samples of seed 0" in score["protocol"]
    assert run["classes"] == {"fd_cifar": {"red": 7.0}}
    assert [warning["kimg"] for warning in run["warnings"]] == [192.0]
    assert dict(run["facts"])["cost"] == "2.5 GFLOP an image"
    assert run["settings"]["train_kimg"] == ["640.0", "6400.0"]
    assert [when for when, _ in run["grid"]["frames"]] == [0.0, 64.0, 128.0, 192.0, 256.0]
    picture = decode(run["grid"]["frames"][2][1])
    expected = images(2).reshape(GRID, GRID, SIZE, SIZE, 3).swapaxes(1, 2).reshape(GRID * SIZE, -1, 3)
    np.testing.assert_array_equal(picture, expected)
    small = contents(tmp_path / "run", budget=4e3)["grid"]["frames"]
    assert 1 <= len(small) < 5
    assert decode(small[-1][1]).shape == picture.shape


def test_what_held_out_reals_reach_is_drawn_for_their_score(tmp_path, capsys):
    workdir = make_run(tmp_path / "run")
    for text, expected in ((HELD_OUT, 3.456), ('{"sco', None)):
        (workdir / "held_out.json").write_text(text)
        reals = {panel["title"].split()[-2]: panel["reals"] for panel in contents(workdir)["panels"] if panel["reals"]}
        assert reals == ({"fd_cifar": expected} if expected else {})
    assert "held_out.json, line 1: damaged" in capsys.readouterr().err


def test_a_report_of_a_run_in_training_is_that_of_its_log(tmp_path):
    workdir = make_run(tmp_path / "run")
    history = History(read_metrics(workdir / "metrics.jsonl"))
    live, later = contents(workdir, history, status="running"), contents(workdir)
    assert live.pop("status") == "running"
    for run in (live, later):
        run.pop("written")
        run.pop("status", None)
    assert live == later


def test_a_run_that_a_process_has_is_running(tmp_path):
    workdir = make_run(tmp_path / "run")
    with sole_user({"--workdir": workdir}):
        assert contents(workdir)["status"] == "running"
    assert contents(workdir)["status"] == "stopped"


def test_warnings_go_with_the_lines_of_a_resumed_run(tmp_path):
    workdir = make_run(tmp_path / "run")
    MetricsLog(workdir, resume_step=30).close()
    assert [warning["kimg"] for warning in contents(workdir)["warnings"]] == [192.0]
    MetricsLog(workdir, resume_step=29).close()
    assert contents(workdir)["warnings"] == []


def test_the_command_trains_the_same_run(tmp_path):
    run = contents(make_run(tmp_path / "run", lr=3e-4))
    words = run["command"].split()
    assert words[:3] == ["jaxgan", "train", "--config=cifar_sngan"]
    calls = []
    main = dataclasses.replace(train.main, function=lambda flags, config: calls.append(config))
    assert main(words[2:]) == 0
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert json.loads(to_json(calls[0])) == saved


def test_every_packaged_config_is_nearest_to_itself():
    config = jaxgan.config("digits")
    assert nearest_config(config) == ("digits", {})
    config.seed = 3
    assert nearest_config(config) == ("digits", {"seed": 3})


def test_a_page_holds_all_of_it(tmp_path, capsys):
    """Names are text, nothing is fetched, and the file is small."""
    evil = "</script><img src=x onerror=alert(1)>"
    workdir = make_run(tmp_path / "run", name=evil)
    assert command.main([str(workdir)]) == 0
    text = (workdir / "report.html").read_text()
    assert len(text) < page.LIMIT
    assert evil not in text
    assert data_of(workdir / "report.html")[0]["grid"]["titles"] == [evil, "green", "blue", evil]
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert "report.html" in capsys.readouterr().out


def test_many_runs_fit_into_one_page(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LIMIT", 3e5)
    runs = [make_run(tmp_path / name, seed=i) for i, name in enumerate(("a/run", "b/run", "b/other"))]
    page.write(tmp_path / "out/all.html", runs)
    assert (tmp_path / "out/all.html").stat().st_size < 3e5
    assert [run["name"] for run in data_of(tmp_path / "out/all.html")] == ["a/run", "b/run", "other"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "--runs is not given"),
        (["nowhere"], "no run is there (no config.json)"),
        (["a", "b"], "--out='': name a FILE.html"),
        (["a", "--out=a.png"], "--out='a.png': name a FILE.html"),
        (["a", "a", "--out=a.html"], "is named twice; once is enough"),
    ],
)
def test_wrong_requests(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


# In a browser, which must be installed; without one these are skipped.


@pytest.fixture
def show(browser):
    """Opens a page without a network and returns it; what its console says makes the test fail in the end."""
    said, contexts = [], []

    def open_page(path, width=1280, scheme="light", **options):
        view = {"width": width, "height": 900}
        context = browser.new_context(viewport=view, color_scheme=scheme, offline=True, **options)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        opened.goto(f"file://{path}")
        expect(opened.locator("canvas").first).to_have_attribute("width", re.compile("."))  # set by what draws it
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    workdir = make_run(tmp_path_factory.mktemp("one") / "run")
    (workdir / "held_out.json").write_text(HELD_OUT)
    page.write(workdir / "report.html", [workdir])
    return workdir / "report.html"


def pixels(canvas):
    return canvas.evaluate("c => c.toDataURL()")


@pytest.mark.slow
def test_the_slider_shows_the_samples_of_its_moment(show, one):
    opened = show(one)
    canvas, slider = opened.locator("canvas").first, opened.locator("#slider")
    output = opened.locator(".time output")
    expect(output).to_have_text("256 kimg")  # the newest
    last = pixels(canvas)
    slider.fill("1")
    assert output.text_content() == "64 kimg"
    opened.wait_for_timeout(100)
    assert pixels(canvas) != last
    seen = canvas.evaluate("c => [...c.getContext('2d').getImageData(c.width / 64, c.width / 64, 1, 1).data]")
    assert seen[:3] == images(1)[0, 0, 0].tolist()  # the first pixel of the first image
    opened.reload()
    expect(output).to_have_text("64 kimg")  # as the reader left it


@pytest.mark.slow
def test_play_goes_through_the_steps_and_stops(show, one):
    opened = show(one)
    opened.locator("#play").click()
    expect(opened.locator("#slider")).not_to_have_value(str(FRAMES - 1))
    expect(opened.locator("#play")).to_have_attribute("aria-label", "Play", timeout=10_000)
    expect(opened.locator("#slider")).to_have_value(str(FRAMES - 1))


@pytest.mark.slow
def test_an_image_over_time(show, one):
    opened = show(one)
    opened.locator("canvas.pick").click(position={"x": 20, "y": 20})
    assert "Row 1, column 1" in opened.locator("#strip").text_content()
    assert opened.locator("#strip canvas").count() == FRAMES
    opened.locator("#strip button").click()
    assert opened.locator("#strip canvas").count() == 0


@pytest.mark.slow
def test_curves_tell_their_values_and_zoom(show, one):
    opened = show(one)
    card = opened.locator(".chart", has_text="Losses")
    assert card.locator(".flag").count() == 1  # the warning
    drawing, path = card.locator("svg"), card.locator("path.line").first
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    opened.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 80)
    tip = card.locator(".tip")
    assert "kimg" in tip.text_content()
    assert "D" in tip.text_content()
    assert "mode collapse" in card.locator(".tip").text_content()  # whose mark is there
    score = opened.locator(".chart", has_text="fd_cifar")
    assert "1,000 held-out reals: 3.46" in score.locator("svg").text_content()
    assert "held-out" not in drawing.text_content()
    before = path.get_attribute("d")
    opened.mouse.down()
    opened.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 80)
    opened.mouse.up()
    zoomed = path.get_attribute("d")
    assert zoomed != before
    opened.locator("#smoothing").fill("0")
    assert path.get_attribute("d") != zoomed
    opened.locator("#reset").click()
    opened.locator("#smoothing").fill("0.6")
    assert path.get_attribute("d") == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "age", "text"),
    [(60, 950, "running, 60 %, 6 min 40 s left"), (60, 1150, "no news for 19 min"), (1, 800, "running, 1 %")],
)
def test_a_run_that_was_killed_does_not_run_on(lines, age, text, show, tmp_path):
    """Its page says so when two reports should have come; with one line nobody knows when they should."""
    run = contents(make_run(tmp_path / "run", lines=lines), status="running")
    assert run["interval"] == (pytest.approx(500.0) if lines > 1 else None)
    run["written"] -= age
    (tmp_path / "report.html").write_bytes(page.render([run]))
    expect(show(tmp_path / "report.html").locator(".state")).to_contain_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_on_every_screen(show, one, width, scheme):
    opened = show(one, width, scheme)
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert (opened.evaluate(brightness) > 128) == (scheme == "light")
    opened.locator("#theme").click()
    assert (opened.evaluate(brightness) > 128) != (scheme == "light")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out
    assert opened.locator(".class").count() == len(NAMES)
    assert "red" in opened.locator(".class").first.text_content()


@pytest.mark.slow
def test_a_comparison(show, tmp_path):
    runs = [make_run(tmp_path / f"s{seed}-{lr}", seed, lr) for lr in (1e-4, 2e-4) for seed in (0, 1, 2)]
    page.write(tmp_path / "all.html", runs)
    opened = show(tmp_path / "all.html")
    table = opened.locator("table").first
    headings = table.locator("th").all_text_contents()
    assert headings == ["run", "best fd_cifar", "kimg", "time", "optim_g.lr", "seed"]  # only what differs
    column = table.locator("tbody td:nth-child(2)")
    table.locator("th button", has_text="best").click()
    assert column.all_text_contents() == ["0.1", "0.2", "1.1", "1.2", "2.1", "2.2"]
    table.locator("th button", has_text="best").click()
    assert column.all_text_contents() == ["2.2", "2.1", "1.2", "1.1", "0.2", "0.1"]
    assert opened.locator("table").nth(1).locator("tbody tr").all_text_contents() == [
        "31.1 ± 10.0001",
        "31.2 ± 10.0002",
    ]
    assert opened.locator("figure canvas").count() == 6
    losses = opened.locator(".chart", has_text="Losses · D")
    assert losses.locator("path.line").count() == 6
    opened.locator(".runs button").first.click()
    assert losses.locator("path.line").count() == 5


def test_rectangles_are_cut_out_of_their_grids(tmp_path):
    made = np.random.default_rng(0).integers(0, 256, (GRID * GRID, 4, SIZE, 3), dtype=np.uint8)
    workdir = make_run(tmp_path / "run")
    (workdir / "data.json").write_text(json.dumps(DataSpec((4, SIZE), 3, 0, 100, "")._asdict()))
    save_png(workdir / "samples" / "000999.000kimg.png", show_grid(made, GRID))
    run = contents(workdir)
    assert run["grid"]["cell"] == [4, SIZE]
    assert dict(run["facts"])["images"] == "100 of 8\u00d74"
    expected = made.reshape(GRID, GRID, 4, SIZE, 3).swapaxes(1, 2).reshape(GRID * 4, -1, 3)
    np.testing.assert_array_equal(decode(run["grid"]["frames"][-1][1]), expected)
