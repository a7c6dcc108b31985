"""Command `logs`: the log of a service. `places.py` says where it is (pure), `commands.py` shows it."""
