"""How releases are made: `deploy/release.py`."""
