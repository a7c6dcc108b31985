"""The audit log: listed and followed by people (`client.py`), filled by services (`sender.py`)."""
