"""The cluster simulated whole: its own code in virtual time, and faults by a seed.

    scenarios.py  what a seed draws --> world.py --> parts/ over fabric/ --> promises.py  what must hold
    attempts.py   why a task may be computed again
    __main__.py   make simulate     --> runs.py, shrinking.py;  mutants.py  bugs that must be found

`docs/decisions/0040-the-cluster-simulated-whole.md` says what is simulated and what is not, and how a run is
replayed. Read `world.py` first.
"""
