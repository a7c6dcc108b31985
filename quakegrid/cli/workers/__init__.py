"""The commands `quakegrid workers`: `commands.py` has the group, `debug.py` its longest command."""
