"""Cores and memory of the node: what there is, what is used, and the limits that follow."""
