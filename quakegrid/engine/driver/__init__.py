"""A driver: the process that runs the engine's own master side of a calculation.

`process.py` is entered from the template's fork. Read it first.
"""
