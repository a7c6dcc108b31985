"""What one lane can do: `load.py` loads one, `queued.py` fills its queue, `limits.py` makes figures."""
