"""Unit tests of the scheduling core."""
