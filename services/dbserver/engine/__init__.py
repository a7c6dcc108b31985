"""Answers the engine's `dbcmd`: named actions and SQL texts of upstream's DbServer.

A leaf: only `rpc/engine_calls.py` imports it, and a test of imports holds that. Read `actions.py` first.
"""
