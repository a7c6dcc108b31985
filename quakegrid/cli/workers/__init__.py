"""The commands `quakegrid workers`, of `commands.py` and `debug.py`, and `quakegrid events`."""
