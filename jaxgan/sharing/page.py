"""The explorer's page: what Gradio shows of an `Explorer` and its `Sheets`."""

import os
import random
import tempfile
from pathlib import Path

import numpy as np

from jaxgan.core.errors import ConfigError
from jaxgan.core.shapes import size_in_words
from jaxgan.sampling.films import check_suffix, save_film
from jaxgan.sampling.pictures import grid, save_png
from jaxgan.sharing.explorer import ANY, EXTENT, STEPS, Explorer, Point
from jaxgan.sharing.sheets import Sheets

LARGE, SMALL, MEDIUM = 512, 160, 256  # pixels of a side that pictures are enlarged to: the one, of a sheet, of a pair
STYLE = """
.gradio-container {overflow: clip !important}  /* so that something in it can stay while it is scrolled */
img {image-rendering: pixelated}
#sheet .grid-wrap {min-height: 0; max-height: none}
#sheet .grid-container {grid-template-columns: repeat(6, minmax(0, 1fr)); grid-auto-rows: auto; gap: 6px}
#sheet .thumbnail-item {aspect-ratio: auto; height: auto; border-radius: 0}
#sheet .caption-label {position: static; max-width: none; border: 0; padding: 0; text-align: center}
@media (max-width: 700px) {  /* a phone: one column, under a picture that stays */
  .side {display: contents}
  .side > * {flex: 1 1 100% !important}
  #picture {position: sticky; top: 0; z-index: 100}
  #picture img {height: 38vh}
}
"""
# A file that is ready is fetched as if its link had been clicked.
FETCH = """() => document.querySelector("#file").click()"""
KINDS = {
    "Picture (PNG)": ".png",
    "Pictures, latents and labels (npz)": ".npz",
    "Walk (WebP)": ".webp",
    "Walk (MP4)": ".mp4",
}
PLAIN = Point._fields[:-1]  # what has a control each
FROM_SEED = ("the seed", 0)  # the first choice of what to start from


def page(sheets: Sheets, name: str):
    """Returns the page as a gradio.Blocks, not served yet."""
    gradio, explorer = import_gradio(name), sheets.explorer

    def draw(*values):
        try:
            (image,) = explorer.draw([_point(values)])
        except ConfigError:
            return gradio.skip()  # the note under the sheet, which is asked for too, says what is wrong
        return explorer.enlarged(image, LARGE)

    def draw_sheet(name, *values):
        try:
            if sheets.needs_reading(name):
                for line in sheets.reals.read():
                    yield [], line
            explorer.draw([_point(values)])  # or an error
            sheet = sheets.make(name, _point(values))
        except (ConfigError, OSError) as error:
            yield gradio.skip(), str(error)
        else:
            yield [(explorer.enlarged(tile.image, SMALL), tile.caption) for tile in sheet.tiles], sheet.note

    def choose(event: gradio.SelectData, name, *values):
        point = sheets.make(name, _point(values)).tiles[event.index].point
        return list(values) if point is None else _values(point, explorer.num_directions)

    def save(kind, name, *values):
        point = _point(values)
        try:
            return str(_save(sheets, KINDS[kind], name, point))
        except (ConfigError, OSError) as error:
            raise gradio.Error(str(error), print_exception=False) from error

    def find(uploaded, label):
        if uploaded is None:
            yield None, "Give a picture first.", 0
            return
        path = uploaded["path"]
        try:
            image = explorer.read(path)
            yield None, "Comparing it with samples ...", 0
            for number, step, found in explorer.project(image, label):
                pair = [explorer.enlarged(each, MEDIUM) for each in (image, found.images[0])]
                yield (
                    grid(np.stack(pair), 2, scale=1),
                    f"Step {step} of {STEPS}: distance {found.distances[0]:.3f}.",
                    number,
                )
        except (ConfigError, OSError) as error:
            yield None, str(error).replace(f"path={path!r}:", Path(path).name), 0  # its directory is nobody's business

    def start_from(number, known):
        if not number or number in known:  # nothing was found, or nothing new
            return gradio.skip()
        known = [*known, number]
        choices = [(f"uploaded picture {i}", number) for i, number in enumerate(known, 1)]
        return known, gradio.Dropdown([FROM_SEED, *choices], value=number), *[0] * len(movers)

    with gradio.Blocks(title=f"{name} - jaxgan", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gradio.Markdown(f"# {name}\n{_facts(explorer)}")
        with gradio.Row():
            with gradio.Column(scale=5, min_width=320, elem_classes="side"):
                picture = gradio.Image(
                    format="png", show_label=False, interactive=False, buttons=["fullscreen"], elem_id="picture"
                )
                another = gradio.Button("Another seed", variant="primary")
                kinds = gradio.Radio(
                    sheets.names,
                    value="Seeds",
                    label="More pictures",
                    info="Shows what is around this one; click on a picture to go there.",
                )
                tiles = gradio.Gallery(
                    show_label=False, allow_preview=False, format="png", buttons=[], elem_id="sheet", height="auto"
                )
                note = gradio.Markdown(elem_id="note")
            with gradio.Column(scale=6, min_width=320, elem_classes="side"):
                controls = _controls(gradio, explorer)
                with gradio.Accordion("A picture of yours", open=False, elem_id="yours"):
                    upload = gradio.Image(
                        type="filepath", sources=["upload", "clipboard"], show_label=False, height=180
                    )
                    with gradio.Row():
                        search = gradio.Button("Find the nearest", variant="primary", min_width=120)
                        stop = gradio.Button("Stop", min_width=120)
                    progress = gradio.Markdown(
                        "The generator is searched for the picture; what is found is what the controls start from.",
                        elem_id="progress",
                    )
                    pair = gradio.Image(
                        format="png", label="Yours, and the nearest", interactive=False, buttons=[], elem_id="pair"
                    )
                with gradio.Group(elem_id="save"):
                    kind = gradio.Dropdown(list(KINDS), value="Picture (PNG)", label="What is seen, as a file")
                    keep = gradio.Button("Save", size="sm")
                    file = gradio.DownloadButton("File", visible="hidden", elem_id="file")
        newest, known = gradio.State(0), gradio.State([])
        values = [controls[name] for name in _names(explorer)]
        raw = dict(preprocess=False, trigger_mode="always_last")  # the explorer says what is wrong, in its own words
        around = dict(fn=draw_sheet, inputs=[kinds, *values], outputs=[tiles, note], show_progress="minimal", **raw)
        private = dict(api_visibility="private")
        gradio.on(
            [blocks.load, *(control.change for control in values)], draw, values, picture, api_name="draw",
            show_progress="hidden", queue=False, **raw,
        )  # fmt: skip
        settled = [getattr(control, "release", control.change) for control in values]
        gradio.on([blocks.load, kinds.change, *settled], api_name="sheet", **around)
        tiles.select(choose, [kinds, *values], values, show_progress="hidden", **private, **raw).then(
            **private, **around
        )
        another.click(lambda: (0, random.randrange(2**31)), None, [controls["start"], controls["seed"]], **private)
        saved = keep.click(save, [kind, kinds, *values], file, api_name="save", show_progress_on=keep, **raw)
        saved.success(None, js=FETCH, **private)
        found = search.click(
            find, [upload, controls["label"]], [pair, progress, newest], show_progress="hidden", api_name="find",
            preprocess=False,
        )  # fmt: skip
        movers = [controls[name] for name in ("way", "first", "until")] + values[len(PLAIN) :]
        use = dict(fn=start_from, inputs=[newest, known], outputs=[known, controls["start"], *movers], **private)
        found.success(**use)
        stop.click(cancels=[found], **use)
    return blocks


def _controls(gradio, explorer: Explorer) -> dict:
    """Returns the controls of the page by the names of a `Point`, and those of its moves."""
    found, no_truncation, wide = {}, explorer.no_truncation, dict(min_width=200)
    with gradio.Group(), gradio.Row():
        found["seed"] = gradio.Number(0, label="Seed", precision=0, info="Draws a picture, always the same.", **wide)
        found["start"] = gradio.Dropdown(
            [FROM_SEED], value=0, label="Start from", info="Or from a picture of yours, see below.", **wide
        )
    classes = [(name, number) for number, name in enumerate(explorer.class_names)]
    with gradio.Group(visible=bool(classes)):
        with gradio.Row():
            found["label"] = gradio.Dropdown(
                [("its own", ANY), *classes], value=ANY, label="Class", info="Says what is to be seen.", **wide
            )
            found["other"] = gradio.Dropdown(
                [("none", ANY), *classes],
                value=ANY,
                label="Second class",
                info="Is mixed into the class.",
                **wide,
            )
        found["share"] = gradio.Slider(0, 1, 0.5, step=0.01, label="Mixture", info="0: the class; 1: the second class.")
    found["truncation"] = gradio.Slider(
        0.0 if explorer.generator.has_styles else 0.1, no_truncation, no_truncation, step=0.05, label="Truncation",
        info="Further to the left: more typical pictures, more alike.",
    )  # fmt: skip
    with gradio.Group():
        with gradio.Row():
            found["to"] = gradio.Number(1, label="Second seed", precision=0, info="Where the walk ends.", **wide)
            found["way"] = gradio.Slider(0, 1, 0, step=0.01, label="Walk", info="0: here; 1: there.", **wide)
        layers = explorer.num_styles
        with gradio.Row(visible=layers > 1):
            options = dict(minimum=0, maximum=max(layers, 1), value=0, step=1, **wide)
            found["first"] = gradio.Slider(
                label="Styles from layer", info="From here on the second seed's; 0 is the coarsest.", **options
            )
            found["until"] = gradio.Slider(label="to layer", info="Here the first one's come back.", **options)
    count = explorer.num_directions
    with gradio.Group(visible=count > 0):
        for first in range(0, count, 2):
            with gradio.Row():
                for i in range(first, min(first + 2, count)):
                    info = f"No. {i + 1} in strength." if i else "The strongest change."
                    options = dict(step=0.1, label=f"Direction {i + 1}", info=info, **wide)
                    found[f"move {i + 1}"] = gradio.Slider(-EXTENT, EXTENT, 0, **options)
        moves = [control for name, control in found.items() if name.startswith("move")]
        clear = gradio.Button("All directions to 0", size="sm")
        clear.click(lambda: [0.0] * len(moves), None, moves, api_visibility="private")
    return found


def _names(explorer: Explorer) -> list[str]:
    """Returns the names of the controls in the order of a `Point`."""
    return [*PLAIN, *(f"move {i + 1}" for i in range(explorer.num_directions))]


def _point(values) -> Point:
    return Point(*values[: len(PLAIN)], moves=tuple(values[len(PLAIN) :]))


def _values(point: Point, num_directions: int) -> list:
    return [*point[:-1], *(point.moves or [0.0] * num_directions)]


def _save(sheets: Sheets, suffix: str, name: str, point: Point) -> Path:
    """Writes what is seen into a temporary directory: the picture, the pictures and their latents, or the walk."""
    explorer = sheets.explorer
    start = f"found_{point.start}" if point.start else f"seed_{point.seed}"
    path = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR"))) / f"{start}{suffix}"
    if suffix == ".png":
        (image,) = explorer.draw([point])
        save_png(path, explorer.enlarged(image, LARGE))
    elif suffix == ".npz":
        tiles = [] if sheets.needs_reading(name) else sheets.make(name, point).tiles
        goals = [tile.point for tile in tiles if tile.point]
        np.savez(path, **explorer.arrays([point, *goals]))
    else:
        check_suffix(path)
        save_film(path, explorer.film(point, LARGE))
    return path


def _facts(explorer: Explorer) -> str:
    config, step = explorer.generator.config, explorer.generator.step
    size = size_in_words(explorer.generator.module.image_size).replace("x", "\u00d7")
    classes = f" in {len(explorer.class_names):,} classes" if explorer.class_names else ""
    return (
        f"{config.model.name} on {config.data.name}: pictures of {size} pixels{classes}, after {step:,} training steps."
    )


def import_gradio(path):
    """Returns the package gradio, which then sends nothing to anyone; a ConfigError says what to install."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise ConfigError(f"path={str(path)!r}: to explore it needs pip install 'jaxgan[explore]'") from None
    return gradio
