"""The fleet core: which session executes, and which cores are whose. Pure.

`core.py` takes the events of `events.py` and returns its actions. `state.py` holds nodes, sessions and
workers; `placement.py` and the modules that it uses divide the cores. Read `core.py` first.
"""
