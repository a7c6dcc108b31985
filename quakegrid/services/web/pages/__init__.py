"""The pages: plain HTML with one small script each, in `static/`; they need no internet.

`drawings.py` has the numbers of pictures, `reports.py` why a calculation waits or is slow. `pages.py` has the
addresses of pages; upstream's `/` and `/engine` lead to the list of calculations.
"""
