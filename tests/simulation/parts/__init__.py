"""The parts of a simulated cluster: the product's own cores, with played sockets, processes and disks around them.

`lanes.py` and `workers.py`, `drivers.py`, `nodes.py` (agents), `master.py` (the broker) and `database.py` (the
dbserver) each have one kind of process, with its crashes and restarts.
"""
