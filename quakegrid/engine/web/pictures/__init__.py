"""What the page of a calculation draws, as numbers: pictures of its datastore, in one of four shapes.

`catalogue.py` has them all, `hazard.py` and `risk.py` make them, `shapes.py` says what a picture consists of.
Start with `catalogue.py`.
"""
