"""Unit tests of who may call what."""
