"""Log lines: stored, followed, deleted. Read `lines.py` first."""
