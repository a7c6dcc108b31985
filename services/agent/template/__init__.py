"""The template process: imports the engine once, forks workers and drivers, reaps them. One thread.

`python -m services.agent.template`. Read `fork_loop.py` first.
"""
