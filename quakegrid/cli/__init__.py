"""The command line `quakegrid`: a module for each group of commands, and `views/` for what they print.

    __main__.py (table of commands) --> run.py, jobs.py, status.py, ... --> quakegrid/clients/ (ask a service)
                                                       |
                                                       +--> views/ (tables, JSON, progress)

A command is in the module of its name, `workers` in its folder; `up` and `down` are in `cluster.py`,
`explain` in `report.py`, `metrics` in `status.py`. `options.py` has what they share. Read `__main__.py`
first.
"""
