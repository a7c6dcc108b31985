"""Unit tests of settings, keys and transport."""
