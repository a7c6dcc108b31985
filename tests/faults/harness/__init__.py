"""The fault harness: a cluster in network namespaces, work whose result is known, and faults by a seed."""
