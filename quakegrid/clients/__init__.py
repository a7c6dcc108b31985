"""Clients of the services, one module a service; `retries.py` is their patience.

`dbserver.py` (jobs, logs), `broker.py` (fleet), `agent.py` (nodes), `drivers.py` (a driver on this machine).
"""
