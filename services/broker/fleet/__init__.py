"""The fleet core: which session executes, and which cores are whose. Pure.

    core.py  handle(event) --> queue.py, nodes.py, deaths.py, leftovers.py --> what must be done at once
             place()       --> placement.py --> targets.py, shares.py: how many cores a session has
                                            --> drains.py, widths.py: which workers end and start

`events.py` has what the core hears and answers, `state.py` nodes, sessions and workers with their legal
moves, `workers.py` the table of workers. Read `core.py` first.
"""
