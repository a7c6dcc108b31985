"""Answers the engine's `dbcmd`: named actions and SQL texts of upstream's DbServer.

Only `rpc/engine_calls.py` may import this folder; a test of imports checks that. Read `actions.py` first.
"""
