"""The audit log: its table (`rows.py`), and the one place where records come in (`book.py`)."""
