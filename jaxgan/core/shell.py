"""What a person has to type to run a command of jaxgan from here."""

import os
import shlex
import shutil
import sys


def command_line(*words: str) -> str:
    """Returns the line that runs the command `jaxgan` with these words.

    The shell does not find the command of an environment that is not activated: then its path stands in the line. Where
    no command is installed beside this Python, as in a checkout, Python runs the package.
    """
    script = shutil.which("jaxgan", path=os.path.dirname(sys.executable))
    if script is None:
        return shlex.join([from_here(sys.executable), "-m", "jaxgan", *words])
    found = shutil.which("jaxgan")
    is_found = found is not None and os.path.samefile(found, script)
    return shlex.join(["jaxgan" if is_found else from_here(script), *words])


def from_here(path: str | os.PathLike) -> str:
    """Returns a path as it is spelled in the current directory, if it is inside; else the absolute one.

    Example:
      >>> from_here(os.path.join(os.getcwd(), "runs", "digits"))
      'runs/digits'
    """
    path, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(path) if path.startswith(here + os.sep) else path
