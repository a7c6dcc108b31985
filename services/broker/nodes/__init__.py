"""The nodes: `link.py` is the connection to one agent, `registry.py` has all links and hears the agents.

Read `registry.py` first.
"""
