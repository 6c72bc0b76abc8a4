"""Turns a run into a model that others can use: python -m jaxgan.export RUN --out=DIR."""

from jaxgan.commands import app, export

if __name__ == "__main__":
    app.run(export.main)
