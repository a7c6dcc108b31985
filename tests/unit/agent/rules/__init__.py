"""Unit tests of what an agent decides."""
