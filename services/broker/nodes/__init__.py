"""The nodes: `link.py` is the connection to one agent, `registry.py` knows them all, `reports.py` reads them.

Read `link.py` first.
"""
