"""What makes a run a model that others can use: its weights, a program, a model card, and the Hugging Face Hub.

`program.py` makes of a generator a program that needs no jaxgan, `card.py` writes what people and the Hub read, and
`export.py` puts all of it into a directory and pushes it. Nothing here trains or scores.
"""
