"""What a trained generator is used for: samples, interpolations, semantic directions, inversion, pictures.

`generator.py` has the pure functions and the class `Generator`, which know modules and arrays but no config; `load.py`
makes one from a checkpoint and is the only file here that reads a config. Nothing here trains or scores: losses belong
to `gan`, features and metrics to `evaluation`, which imports this room and is never imported by it. Whoever wants
perceptual features in an inversion passes a function of images.
"""
