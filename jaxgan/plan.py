"""Compiles a training step for hardware that is not here: python -m jaxgan.plan --config=cifar --topology=v5e:2x4."""

from jaxgan.commands import app, plan

if __name__ == "__main__":
    app.run(plan.main)
