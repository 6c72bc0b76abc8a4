"""What a resumed run may change, and what it may not."""

from ml_collections import ConfigDict

from jaxgan.gan.schedules import follows_run
from jaxgan.settings import flatten

# What a resumed run may change: how long, how often, where and how fast, but not what the arrays mean.
_FREE_ON_RESUME = (
    "train_kimg", "steps_per_dispatch", "parallel", "data.dir", "data.manual_dir", "data.cache_gb",
    "data.eval_split", "log.", "sample.", "eval.", "diagnose.", "checkpoint.",
)  # fmt: skip


def changes(config: ConfigDict, saved: ConfigDict) -> tuple[list[str], list[str]]:
    """Settings that differ from a saved run's, as "name: old -> new": those free to change, and the others."""
    old, new = flatten(saved), flatten(config)
    over_run = any(follows_run(value) for key, value in new.items() if key.endswith("_schedule"))
    free, fixed = [], []
    for key in new:
        if new[key] != old[key]:
            # A schedule over the whole run has another past when the run gets another length.
            is_free = key.startswith(_FREE_ON_RESUME) and not (key == "train_kimg" and over_run)
            target = free if is_free else fixed
            target.append(f"config.{key}: {old[key]!r} -> {new[key]!r}")
    return free, fixed
