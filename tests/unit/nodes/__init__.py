"""Unit tests of whether a node fits."""
