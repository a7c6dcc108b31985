"""Integration tests of the dbserver."""
