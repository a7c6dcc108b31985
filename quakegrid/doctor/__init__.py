"""Finds what would break or slow a calculation: facts of nodes in, findings out.

`facts` and `findings` are values, `node_checks`, `network_checks` and `cluster_checks` are pure, `probes`
and `gathering` look at a machine, `visits` asks all nodes.
"""
