"""Prints and draws for the command line: tables, progress, reports.

`render.py` prints the results of all commands as a table, JSON or a column; which columns a table has is in
the command's own module. `live.py` repeats a listing, `progress.py` shows a run and `run_report.py` gathers
its end.
"""
