"""Processes, cgroups and scores of Linux, used by all programs of a node."""
