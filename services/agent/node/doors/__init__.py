"""Whoever may ask an agent: the broker, people, doctors (gRPC), command lines (unix socket).

`request_checks.py` checks all of it where it comes in. Read `port.py` first.
"""
