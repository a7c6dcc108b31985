"""The sessions of drivers: their streams, ends and absences, the output of workers, the final states of jobs.

Read `requests.py` first, which opens sessions, then `session.py` and `ends.py`.
"""
