"""The broker's status for people (`status.py`, `totals.py`) and for Prometheus (`metrics.py`, `job_totals.py`)."""
