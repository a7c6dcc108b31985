"""Sessions as their drivers see them: streams, ends, absences, printed lines, final states of jobs.

Read `requests.py` first, which opens sessions, then `session.py` and `ends.py`.
"""
