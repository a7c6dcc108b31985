"""A driver's side of its session: the stream to the broker, tasks on the lane, what workers print.

Read `session.py` first.
"""
