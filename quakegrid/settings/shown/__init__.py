"""Settings for people: which value counts, from which file, and all that is wrong: `effective.py`."""
