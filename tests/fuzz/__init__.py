"""Fuzzing: seeded bad inputs at every door of the services, and what must hold meanwhile."""
