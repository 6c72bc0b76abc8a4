"""What is left of a failure for whoever looks into it: its traceback in a file."""

import contextlib
import datetime
import os
import tempfile
import traceback
from pathlib import Path


def write_traceback(error: BaseException, directory: str | os.PathLike | None = None) -> Path | None:
    """Writes the traceback of an error to a new file `error-<time>.txt`.

    Args:
      error: what was raised.
      directory: where the file belongs, such as that of the run. Where it does not exist or cannot be written to, the
        file is in the temporary directory.

    Returns:
      The path of the file; None if it could be written nowhere.
    """
    name = f"error-{datetime.datetime.now():%Y%m%d-%H%M%S-%f}.txt"
    text = "".join(traceback.format_exception(error))
    for place in (directory, tempfile.gettempdir()):
        if place is not None:
            path = Path(place, name)
            try:
                path.write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                continue
            return path
    return None
