"""Comparing two calculations: their parameters, and their results as numbers within a tolerance.

    parameters.py   which parameters differ
    numbers.py      two rows of numbers, within a tolerance
    tables.py       two tables as the engine exports them (CSV), built on `numbers.py`

Used by `quakegrid jobs compare` and by the page that compares calculations. Start with `tables.py`.
"""
