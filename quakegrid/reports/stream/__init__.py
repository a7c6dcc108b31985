"""What each worker did when, as much of it as a screen shows, whatever the number of tasks.

    blocks of records ──► task_stream.py ──► grid.py (who was busy when), tallies.py (each operation)
                                         ──► lives.py (the workers), lists.py (long tasks, lost ones)

All pure. Read `task_stream.py` first.
"""
