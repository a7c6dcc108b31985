"""Log lines: stored and followed. Read `lines.py` first."""
