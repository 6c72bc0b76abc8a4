"""Writes a report: the contents of one run or of several, and the page that shows them, in one HTML file."""

import html
import json
import re
from pathlib import Path

from jaxgan.core.files import atomic_write
from jaxgan.training.history import History
from jaxgan.training.report.contents import contents

LIMIT = 5e6  # bytes of a page: small enough for a mail
OVERHEAD = 4 / 3  # of base64
FOLDER = Path(__file__).parent / "page"
PROGRAM = ("tools.js", "pictures.js", "curves.js", "tables.js", "main.js")  # in the order in which they are read


def write(path: Path, workdirs: list, history: History | None = None, *, status: str = "") -> None:
    """Writes the report of one run, or one that compares several, whole or not at all.

    Args:
      path: FILE.html.
      workdirs: one run or more.
      history, status: of the one run that trains; see `contents`.
    """
    budget = 0.75 * LIMIT / OVERHEAD / len(workdirs)
    while len(page := render([contents(run, history, status=status, budget=budget) for run in workdirs])) > LIMIT:
        if budget < 1e4:
            break  # curves of very many runs: what is left has one picture each
        budget /= 2
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, page)


def render(runs: list[dict]) -> bytes:
    """Returns the page that shows runs, as `contents` returns them.

    It holds its style, its program and its data, and its policy forbids it to load anything else.
    """
    title = runs[0]["name"] if len(runs) == 1 else f"{len(runs)} runs"
    parts = {
        "title": html.escape(f"{title} \u00b7 jaxgan"),
        "style": (FOLDER / "page.css").read_text(),
        "program": "\n".join((FOLDER / name).read_text() for name in PROGRAM),
        # In a script only "</" and "<!--" mean something.
        "data": json.dumps(runs, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (FOLDER / "page.html").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], template).encode()
