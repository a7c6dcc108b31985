"""Exports that a calculation puts off until its tasks run."""
