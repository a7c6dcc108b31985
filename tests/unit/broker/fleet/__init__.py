"""Unit tests of the fleet core."""
