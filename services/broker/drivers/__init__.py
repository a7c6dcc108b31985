"""Sessions as their drivers see them: streams, ends, absences, printed lines, final states of jobs.

Read `session.py` first, then `ends.py`.
"""
