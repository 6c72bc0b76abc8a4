"""What a metric's value depends on beside the generator and the reals."""

from typing import NamedTuple


class Protocol(NamedTuple):
    """The choices that must be equal for two values to be comparable; the defaults are NVIDIA's."""

    num: int = 50_000  # fakes
    num_reals: int = 0  # reals, evenly spaced over the set; 0: all
    split: str = "train"  # which reals; for whoever loads them
    flips: bool = False  # every real counts a second time, flipped horizontally
    is_splits: int = 10  # parts that the Inception Score is averaged over
    seed: int = 0  # of the samples, and of the subsets of fid_infinity
    standing_batches: int = 0  # of 64 samples, to measure batch norm's statistics on, if G has any; 0: running ones
    step: str = "newest"  # which checkpoint of a run, "best" by its own metric or a number; for whoever loads it


# What papers quote. Their Inception is `inception` here.
_FID50K_FULL = Protocol()
PROTOCOLS = {
    # StudioGAN draws the sizes of the batches for its standing statistics; here they are all 64.
    "studiogan": Protocol(is_splits=1, standing_batches=16, step="best"),
    # mimicry and NVIDIA (fid50k_full, is50k) agree in everything.
    "mimicry": _FID50K_FULL,
    "nvidia": _FID50K_FULL,
    "compare_gan": Protocol(num=10_000, num_reals=10_000, split="test"),
}


def describe_protocol(name: str, protocol: Protocol) -> str:
    """Returns the name of a protocol and what differs from it, for the record of a value.

    Example:
      >>> describe_protocol("nvidia", Protocol(num=10_000, seed=3))
      'nvidia with num=10000, seed=3'
    """
    named = PROTOCOLS[name]._asdict()
    changed = [f"{field}={value}" for field, value in protocol._asdict().items() if value != named[field]]
    return name + f" with {', '.join(changed)}" * bool(changed)
