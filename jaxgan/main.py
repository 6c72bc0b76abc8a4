"""Trains a GAN: python -m jaxgan.main --config=cifar. See `jaxgan.commands.train`."""

from jaxgan.commands import app, train

if __name__ == "__main__":
    app.run(train.main)
