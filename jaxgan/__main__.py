"""The console command: jaxgan train|report|sample|..., or python -m jaxgan with the same words."""

import importlib
import sys

import jaxgan
from jaxgan.core.signals import ctrl_c_ends_at_once
from jaxgan.core.words import nearest

COMMANDS = {
    "train": "trains a GAN, or resumes its training",
    "report": "shows a run, or compares several, in one HTML file",
    "explore": "plays with a trained generator in a browser",
    "export": "makes a run a model that others can use",
    "sample": "makes images with a trained generator",
    "evaluate": "scores a run or anyone's images",
    "convert": "makes a run of networks that others have trained",
    "configs": "lists the packaged configs",
    "plan": "says what a config needs of a TPU or GPU that is not here",
}
USAGE = "usage: jaxgan COMMAND [--FLAG=VALUE ...]\n\n" + "\n".join(f"  {k:10}{v}" for k, v in COMMANDS.items())


def main() -> None:
    """Runs the command that the first argument names; `jaxgan COMMAND --help` lists its flags."""
    ctrl_c_ends_at_once()
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        from jaxgan.commands import app

        app.run(importlib.import_module(f"jaxgan.commands.{name}").main)
    if name == "--version":
        print(f"jaxgan {jaxgan.__version__}")
    elif name in ("", "help", "-h", "--help"):
        print(USAGE + "\n\njaxgan COMMAND --help lists its flags; jaxgan --version prints the version.")
    else:
        print(f"error: {name}: choose one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
