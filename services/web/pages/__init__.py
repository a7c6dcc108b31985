"""The pages: plain HTML with one small script each, in `static/`; they need no internet.

`pages.py` has their addresses; upstream's `/` and `/engine` lead to the list of calculations.
"""
