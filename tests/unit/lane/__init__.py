"""Unit tests of the lane."""
