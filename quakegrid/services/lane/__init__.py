"""A lane process: takes tasks from drivers, hands them to workers, returns outcomes.

    driver --SubmitTask--> loop.py --> door.py --> tasks/ (pure) --> performer.py --RunTask--> worker
    worker --Outcome-----> loop.py --> door.py --> tasks/ --> performer.py --> mail.py --> driver

`door.py` checks what comes, `performer.py` does what the scheduler in `tasks/` decides. The broker starts the
lane and talks to it over a socket pair (`control.py`, `reports.py`). `entrance.py` closes the port while the
process may open no more files. Read `loop.py`, then `door.py`.
"""
