"""The parts of a simulated cluster: the product's own code, with played sockets, processes and disks.

`lanes.py` and `workers.py`, `drivers.py`, `nodes.py` (agents), `master.py` (the broker) and `database.py`
(the dbserver) have one kind of process each, with its crashes and restarts.
"""
