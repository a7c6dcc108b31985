"""Clients of the services: one module or folder for each service, with typed calls over one connection.

`dbserver/` (jobs, logs), `broker.py` and `fleet_control.py` (the fleet), `agent.py` and `node_control.py`
(one node), `drivers.py` (a driver on this machine). `retries.py` says which calls are tried again.
"""
