"""Writes a report: the contents of one run or of several, and the page that shows them, in one HTML file."""

import html
import json
import re
from pathlib import Path

from jaxgan.core.errors import ConfigError
from jaxgan.core.files import as_path, atomic_write
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
    names = shortest_names([as_path(workdir, "RUN", local=True) for workdir in workdirs])
    budget = 0.75 * LIMIT / OVERHEAD / len(workdirs)

    def read(workdir, name: str) -> dict:
        return contents(workdir, history, status=status, budget=budget) | {"name": name}

    while len(page := render(list(map(read, workdirs, names)))) > LIMIT:
        if budget < 1e4:
            break  # curves of very many runs: what is left has one picture each
        budget /= 2
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, page)


def shortest_names(workdirs: list[Path]) -> list[str]:
    """Returns what runs are called beside each other: the ends of their paths, as short as they are told apart by.

    Raises:
      ConfigError: a run is named twice.

    Example:
      >>> shortest_names([Path("/a/numerals"), Path("/b/numerals"), Path("/b/cifar")])
      ['a/numerals', 'b/numerals', 'cifar']
    """

    def name(workdir: Path) -> str:
        for length in range(1, len(workdir.parts) + 1):
            end = workdir.parts[-length:]
            if [other.parts[-length:] for other in workdirs].count(end) == 1:
                return str(Path(*end))
        raise ConfigError(f"RUN={str(workdir)!r}: is named twice; once is enough")

    return list(map(name, workdirs))


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
