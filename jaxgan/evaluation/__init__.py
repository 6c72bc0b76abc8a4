"""How good a generator is: metrics of its samples, alone or against real images, while training and afterwards.

- `api.py`: `evaluate`, in one call
- `evaluator.py`: `Evaluator`, for many generators against the same reals
- `registry.py`: `METRICS`, every metric by its name, and what has to hold before it is computed
- `protocol.py`: what else a value depends on, and the protocols of the field
- `features.py`: features of images and samples, shared among devices and processes; those of reals are kept on disk
- `networks/`: the pretrained networks that make features
- `metrics/`: the metrics themselves, functions of arrays

Nothing here trains, reads a config or a flag, or writes into a run's directory; the callers' names for the settings
come in as an argument, for the messages of errors.
"""

from jaxgan.evaluation.api import evaluate
from jaxgan.evaluation.evaluator import Evaluator
from jaxgan.evaluation.networks import NETWORKS
from jaxgan.evaluation.protocol import PROTOCOLS, Protocol, describe_protocol
from jaxgan.evaluation.registry import METRICS, Metric, check_metrics, higher_is_better

__all__ = [
    "METRICS",
    "NETWORKS",
    "PROTOCOLS",
    "Evaluator",
    "Metric",
    "Protocol",
    "check_metrics",
    "describe_protocol",
    "evaluate",
    "higher_is_better",
]
