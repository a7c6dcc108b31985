"""The status of the broker, for people (`status.py`, `totals.py`) and as metrics (the others)."""
