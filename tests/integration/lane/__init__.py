"""Integration tests of the lane."""
