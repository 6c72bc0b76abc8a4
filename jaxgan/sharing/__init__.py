"""What makes a run a model that others can use: its weights, a program, a model card, a page, the Hugging Face Hub.

`program.py` makes of a generator a program that needs no jaxgan, `card.py` writes what people and the Hub read, and
`export.py` puts all of it into a directory and pushes it. `explorer.py` draws what a person asks for who plays with a
generator, `sheets.py` what is shown beside it, with `training_images.py`; `page.py` is where they ask, in a browser,
and `server.py` says who may. Nothing here trains or scores.
"""
