"""The lane's core: which worker runs which task. Pure.

`scheduler.py` takes the events of `events.py` and returns its actions. `session.py` keeps the tasks of one
session, `crew.py` its workers, `queue.py` what waits, `overdue.py` what runs for too long. Read
`scheduler.py` first.
"""
