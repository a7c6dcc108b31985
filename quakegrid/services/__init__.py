"""The processes of a cluster, one folder each: dbserver, broker, lane, agent, web.

Each is started with `python -m quakegrid.services.NAME` and knows the others only by their contracts in
`protos/`. Code that they share is in the other folders of `quakegrid/`, which import nothing from here.
"""
