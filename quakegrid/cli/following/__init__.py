"""Following calculations from a terminal: those that `run` starts, `attach`, `jobs wait`, what Ctrl-C asks.

`loop.py` follows a *source* of events until its end: `runs.py` has that of a driver, `job_source.py` that of
a job anywhere in the cluster. `interrupts.py` decides what signals and keys mean.
"""
