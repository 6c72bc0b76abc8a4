"""Turns networks of others into a run: python -m jaxgan.convert FILE OUT. See jaxgan.commands.convert."""

import sys

if __name__ == "__main__":
    from jaxgan.commands import app, convert

    app.run(convert.main)
else:  # whoever imports jaxgan.convert means the function of the face, which has the same name
    from jaxgan.conversion.run import convert

    sys.modules[__name__] = convert
