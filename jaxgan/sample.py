"""Makes images with a trained generator: python -m jaxgan.sample --workdir=RUN --out=grid.png."""

from jaxgan.commands import app, sample

if __name__ == "__main__":
    app.run(sample.main)
