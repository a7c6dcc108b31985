"""What the engine's `dbcmd` expects: named actions and SQL texts of upstream's DbServer.

A leaf: only `rpc/engine_calls.py` uses it. Read `actions.py` first.
"""
