"""Jobs: rows, lists, events, legal moves, the drivers' holds, reasons. Read `rows.py` first."""
