"""The template process: imports the engine once, forks workers and drivers, reaps them. One thread.

    __main__.py --> preload.py (imports), then fork_loop.py (orders, reports) --fork--> children.py

`python -m quakegrid.services.agent.template`. Read `fork_loop.py` first.
"""
