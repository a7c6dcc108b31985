"""`agentctl`: the command line of one node. Read `__main__.py` first."""
