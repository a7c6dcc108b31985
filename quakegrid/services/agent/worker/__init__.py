"""The worker process: forked from the template, takes tasks of one session from its lane.

Read `worker.py` first, then `inbox.py`, then `guard.py`.
"""
