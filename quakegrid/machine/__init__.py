"""This computer: its services and their lives, its own cluster, run records, temporary folders."""
