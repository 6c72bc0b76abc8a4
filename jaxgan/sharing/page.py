"""The explorer's page: what Gradio shows of an `Explorer`, and the server for it."""

import functools
import os
import random
import tempfile
import threading

from jaxgan import data
from jaxgan.core.errors import ConfigError
from jaxgan.core.files import as_path
from jaxgan.core.shapes import size_in_words
from jaxgan.sampling import exported
from jaxgan.sampling.load import load
from jaxgan.sharing.explorer import ANY, EXTENT, Explorer, Point

LARGE, SMALL = 512, 160  # pixels of a side that the picture, and those of a sheet, are enlarged to
STYLE = """
.gradio-container {overflow: clip !important}  /* so that something in it can stay while it is scrolled */
img {image-rendering: pixelated}
#sheet .grid-wrap {min-height: 0; max-height: none}
#sheet .grid-container {grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 6px}
#sheet .thumbnail-item {aspect-ratio: auto; height: auto; border-radius: 0}
#sheet .caption-label {position: static; max-width: none; border: 0; padding: 0; text-align: center}
@media (max-width: 700px) {  /* a phone: one column, under a picture that stays */
  .side {display: contents}
  .side > * {flex: 1 1 100% !important}
  #picture {position: sticky; top: 0; z-index: 100}
  #picture img {height: 38vh}
}
"""
# The picture is in the browser already.
SAVE = """async (seed) => {
  const answer = await fetch(document.querySelector("#picture img").src);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `seed_${seed}.png`;
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def explore(path, step="newest", port: int | None = None) -> None:
    """Shows a generator in a browser, until Ctrl-C.

    Args:
      path, step: as in `load`; training images are searched where it is a run.
      port: of this machine; None: the first from 7860 on that is free.

    Raises:
      ConfigError: a wrong request, or no extra `explore`.
    """
    import_gradio(path)
    generator = load(path, step)
    settings, open_reals = generator.config.data, None
    if settings.name != "custom" and _is_run(path):
        open_reals = functools.partial(data.load, settings)
    explorer = Explorer(generator, open_reals)
    print("drawing the first pictures ...", flush=True)
    explorer.prepare()
    with tempfile.TemporaryDirectory(prefix="jaxgan-explore-") as pictures:
        os.environ["GRADIO_TEMP_DIR"] = pictures  # by default one for all people of a machine
        server = serve(explorer, str(path) if _is_on_hub(path) else as_path(path).name, port)
        print(f"{server.local_url}  (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
        finally:
            server.close(verbose=False)


def serve(explorer: Explorer, name: str, port: int | None = None):
    """Starts a server for this machine alone, or for whom GRADIO_SERVER_NAME says, as in a Space.

    Returns:
      Its gradio.Blocks, to be closed.

    Raises:
      ConfigError: the port is taken.
    """
    gradio = import_gradio(name)
    fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # of no other server
    theme = gradio.themes.Default(**fonts).set(block_info_text_color="*neutral_500")
    look = dict(theme=theme, css=STYLE, footer_links=[])
    blocks = page(explorer, name)
    try:
        blocks.launch(server_port=port, share=False, ssr_mode=False, prevent_thread_lock=True, quiet=True, **look)
    except OSError as error:
        raise ConfigError(f"port={port}: is taken, or not for everyone; name another, or none") from error
    return blocks


def page(explorer: Explorer, name: str):
    """Returns the page as a gradio.Blocks, not served yet."""
    gradio = import_gradio(name)

    def draw(*values):
        try:
            (image,) = explorer.draw([_point(values)])
        except ConfigError as error:
            gradio.Warning(str(error))
            return gradio.skip()
        return explorer.enlarged(image, LARGE)

    def draw_sheet(name, *values):
        try:
            sheet = explorer.sheet(name, _point(values))
        except (ConfigError, OSError) as error:
            return gradio.skip(), str(error)
        return [(explorer.enlarged(tile.image, SMALL), tile.caption) for tile in sheet.tiles], sheet.note

    def choose(event: gradio.SelectData, name, *values):
        sets = explorer.sheet(name, _point(values)).tiles[event.index].sets
        return {controls[name]: value for name, value in sets.items()}

    with gradio.Blocks(title=f"{name} - jaxgan", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gradio.Markdown(f"# {name}\n{_facts(explorer)}")
        with gradio.Row():
            with gradio.Column(scale=5, min_width=320, elem_classes="side"):
                picture = gradio.Image(
                    format="png", show_label=False, interactive=False, buttons=["fullscreen"], elem_id="picture"
                )
                with gradio.Row():
                    another = gradio.Button("Another seed", variant="primary", min_width=120)
                    save = gradio.Button("Save picture", min_width=120)
                sheets = gradio.Radio(
                    list(explorer.sheets),
                    value="Seeds",
                    label="More pictures",
                    info="Shows what is around this one; click on a picture to go there.",
                )
                tiles = gradio.Gallery(
                    show_label=False, allow_preview=False, format="png", buttons=[], elem_id="sheet", height="auto"
                )
                note = gradio.Markdown()
            with gradio.Column(scale=6, min_width=320, elem_classes="side"):
                controls = _controls(gradio, explorer)
        values = list(controls.values())
        raw = dict(preprocess=False, trigger_mode="always_last")  # the explorer says what is wrong, in its own words
        around = dict(fn=draw_sheet, inputs=[sheets, *values], outputs=[tiles, note], show_progress="minimal", **raw)
        gradio.on(
            [blocks.load, *(control.change for control in values)], draw, values, picture, api_name="draw",
            show_progress="hidden", **raw,
        )  # fmt: skip
        settled = [getattr(control, "release", control.change) for control in values]
        gradio.on([blocks.load, sheets.change, *settled], api_name="sheet", **around)
        chosen = tiles.select(
            choose, [sheets, *values], values, show_progress="hidden", api_visibility="private", **raw
        )
        chosen.then(api_visibility="private", **around)
        another.click(lambda: random.randrange(2**31), None, controls["seed"], api_visibility="private")
        save.click(None, controls["seed"], None, js=SAVE, api_visibility="private")
    return blocks


def _controls(gradio, explorer: Explorer) -> dict:
    """Returns the controls of the page by their names, in the order of a `Point`."""
    found, no_truncation, wide = {}, explorer.no_truncation, dict(min_width=200)
    found["seed"] = gradio.Number(0, label="Seed", precision=0, info="Draws a picture, always the same.")
    classes = [(name, number) for number, name in enumerate(explorer.class_names)]
    with gradio.Group(visible=bool(classes)):
        with gradio.Row():
            found["label"] = gradio.Dropdown(
                [("the seed's own", ANY), *classes], value=ANY, label="Class", info="Says what is to be seen.", **wide
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
    with gradio.Group(), gradio.Row():
        found["to"] = gradio.Number(1, label="Walk to seed", precision=0, info="Draws the end of the walk.", **wide)
        found["way"] = gradio.Slider(0, 1, 0, step=0.01, label="Walk", info="0: here; 1: there.", **wide)
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


def _point(values) -> Point:
    return Point(*values[:7], moves=values[7:])


def _facts(explorer: Explorer) -> str:
    config, step = explorer.generator.config, explorer.generator.step
    size = size_in_words(explorer.generator.module.image_size).replace("x", "\u00d7")
    classes = f" in {len(explorer.class_names):,} classes" if explorer.class_names else ""
    return (
        f"{config.model.name} on {config.data.name}: pictures of {size} pixels{classes}, after {step:,} training steps."
    )


def _is_on_hub(path) -> bool:
    return str(path).startswith(exported.HUB)


def _is_run(path) -> bool:
    return not _is_on_hub(path) and not (as_path(path) / exported.WEIGHTS).exists()


def import_gradio(path):
    """Returns the package gradio, which then sends nothing to anyone; a ConfigError says what to install."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise ConfigError(f"path={str(path)!r}: to explore it needs pip install 'jaxgan[explore]'") from None
    return gradio
