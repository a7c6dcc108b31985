"""Telling the ends of jobs: by a command of the person, or by an HTTP POST.

Runs in a child of the template, as the person whose job it is, when the job's driver has ended: `ends.py`
waits for the job's final state, `delivery.py` tells it, `targets.py` says what can be told and how.
"""
