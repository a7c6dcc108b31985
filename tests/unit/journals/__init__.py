"""Tests of the journals' format and files."""
