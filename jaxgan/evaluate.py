"""Scores a run or anyone's images: python -m jaxgan.evaluate --workdir=RUN. See `jaxgan.commands.evaluate`."""

import sys

if __name__ == "__main__":
    from jaxgan.commands import app, evaluate

    app.run(evaluate.main)
else:  # whoever imports jaxgan.evaluate means the function of the face, which has the same name
    from jaxgan.evaluation.api import evaluate

    sys.modules[__name__] = evaluate
