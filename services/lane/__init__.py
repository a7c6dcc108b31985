"""A lane process: takes tasks from drivers, hands them to workers, returns outcomes.

    driver --SubmitTask--> loop.py --> door.py (checks) --> tasks/ (pure) --> door.py --RunTask--> worker
    worker --Outcome-----> loop.py --> door.py --> tasks/ --> mail.py --> driver

The broker starts it and talks to it over a socket pair (`control.py`). Read `loop.py`, then `door.py`.
"""
