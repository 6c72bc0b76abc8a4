"""The ground floor: what every room may stand on, and what itself knows no room.

Errors of one line, files that survive a kill, arrays on disk with checksums, random draws, devices and processes,
checkpoints, freed memory. Nothing here knows what a GAN, a network, a data set or a setting is.
"""
