"""Calculations from a machine that has neither the engine nor a cluster."""
