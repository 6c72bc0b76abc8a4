"""The report of a run, or of several: one HTML file that shows what their workdirs hold.

`contents.py` reads a workdir, `frames.py` makes small pictures of its grids, and `page.py` puts all of it into one file
with what is in `page/`: the page's frame, its style and its program. Nothing here trains or loads a checkpoint: what is
not in a workdir's files is not in a report.
"""
