"""The entrances of an agent: a gRPC port for the broker, people and doctors; a unix socket for command lines.

`request_checks.py` checks each request where it comes in. Read `port.py` first.
"""
