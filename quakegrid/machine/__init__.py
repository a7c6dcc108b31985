"""This computer: its services, its own cluster, service files, node state, temporary folders."""
