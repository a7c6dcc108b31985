"""How drivers join their sessions: `joining.py` decides when, `greetings.py` which of their joins count."""
