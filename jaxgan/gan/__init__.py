"""The game and how it is learnt: recipe, training step, losses, penalties, augmentation, optimizers and averages.

Everything here is a pure function of arrays, or a value that such functions take. `recipe.py` builds those values from
a config; below it nobody knows a config. No architecture is named here, no file is read and nothing is printed.
"""
