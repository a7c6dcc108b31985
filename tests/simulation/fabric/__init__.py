"""What stands in for machine and network: virtual time, connections, calls, and the faults that befall them.

`clock.py` runs everything in virtual time. `faults.py` draws what goes wrong, and keeps a list of it.
`wires.py` has the connections of lanes, `calls.py` the calls of services.
"""
