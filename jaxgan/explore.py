"""Explores a trained generator in a browser: python -m jaxgan.explore RUN."""

from jaxgan.commands import app, explore

if __name__ == "__main__":
    app.run(explore.main)
