"""Scores a run or anyone's images: python -m jaxgan.evaluate --workdir=RUN. See `jaxgan.commands.evaluate`."""

from jaxgan.commands import app, evaluate

if __name__ == "__main__":
    app.run(evaluate.main)
