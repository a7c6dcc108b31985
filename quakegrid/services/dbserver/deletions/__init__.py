"""Deleting jobs and logs while others write: marked in one short transaction, then removed in small batches.

Read `marks.py` first, then `reaper.py`.
"""
