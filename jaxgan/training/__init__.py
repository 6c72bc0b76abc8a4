"""The training loop and what it does beside training: `loop.train` is the entry, the rest are its parts.

loop.py has the loop, hooks.py what happens between two steps (evaluation, health, the log line, samples, checkpoints),
resume.py what a resumed run may change, log.py the record of a run, console.py what a person sees of it, health.py the
warnings, plots.py the curves. The mathematics of a step does not belong here but to `jaxgan.gan`, and neither does what
is special to a net, a loss, a metric or a data set.
"""
