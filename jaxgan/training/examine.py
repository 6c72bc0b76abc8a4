"""What `diagnose` looks at while a run trains: samples beside reals, and what D says of reals it has not seen."""

import math

import jax

from jaxgan.core.parallel import first_replica
from jaxgan.data import some_of
from jaxgan.gan.step import normalise
from jaxgan.training import health as diagnose


def make_examiner(nets, dataset, held_out):
    """examine(d: NetState, generator) -> {"health/variety", "health/overfit"}: what `diagnose` looks at.

    variety: pairwise distance among samples over that among reals. overfit: where held-out reals stand, to D,
    between train reals (0) and fakes (1); only where there is a held-out split.
    """
    reals, labels = some_of(dataset)
    spread = diagnose.pairwise_distance(reals)
    if held_out is not None:
        others, other_labels = some_of(held_out)

    @jax.jit
    def logits(d, images, labels):
        variables = {"params": d.params, **d.extra}
        return nets.d.apply(variables, normalise(images), labels, train=False)

    def examine(d, generator) -> dict[str, float]:
        d = first_replica(d)
        z, drawn, keys = generator.latents(len(reals))
        fakes = generator.decode(z, drawn, keys)
        figures = {"health/variety": diagnose.pairwise_distance(fakes) / spread}
        if held_out is not None:
            figures["health/overfit"] = diagnose.overfitting_gap(
                logits(d, reals, labels), logits(d, others, other_labels), logits(d, fakes, drawn)
            )
        return {name: value for name, value in figures.items() if not math.isnan(value)}  # NaN: cannot be told yet

    return examine
