"""Integration tests of the SDK."""
