"""The fleet core: which session executes, and which cores are whose. Pure.

    core.py  handle(event) --> queue.py, nodes.py, deaths.py, leftovers.py --> what must be done at once
             place()       --> placing/: how many cores persons and sessions have, which workers end and start

`events.py` has what the core hears and answers, `state.py` nodes, sessions and workers with their legal
moves, `workers.py` the table of workers. Read `core.py` first.
"""
