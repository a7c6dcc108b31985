"""Integration tests of the broker."""
