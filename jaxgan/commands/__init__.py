"""The commands: what a person types, turned into calls of the other rooms.

A module here holds flags and one call, and no logic of its own; nothing in the package imports it. `app` is what all of
them share. Each `main(arguments)` returns an exit status and can be called from Python any number of times:

    from jaxgan.commands import train
    train.main(["--help"])
"""
