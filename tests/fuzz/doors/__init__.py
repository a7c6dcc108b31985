"""The doors, one module a kind of peer."""
