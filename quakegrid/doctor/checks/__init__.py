"""The checks of the doctor: facts in, findings out. Pure.

`node_checks.py` and `rights_checks.py`: one machine by itself. `network_checks.py`: its names and ports.
`people_checks.py`: accounts and certificates.
`cluster_checks.py`: nodes against the master; it calls all others. `findings.py`: the values. Facts come from
`doctor/facts.py`, and are gathered by `doctor/gathering.py`.
"""
